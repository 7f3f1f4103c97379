"""Embeddings of the whole catalogue in three roles, and their folder (numpy only: no torch is needed to read them)."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from model.errors import ModelFormatError

FORMAT_VERSION = 1
_ARRAYS = ("query", "item", "tail_rows", "item_own")


@dataclass(frozen=True)
class Embeddings:
    """One row an item.

    Shapes:
        item_ids: (N,) strings, sorted; the row order of every matrix
        query: (N, D) float32: the item as what is being looked at; item: (N, D) float32: the item as a candidate
        tail_rows: (T,) int64 ascending: rows of tail items with at least one event
        item_own: (T, D) float32: those as candidates with their own features, not their group's mean
    """

    item_ids: pa.Array
    query: NDArray[np.float32]
    item: NDArray[np.float32]
    tail_rows: NDArray[np.int64]
    item_own: NDArray[np.float32]

    def save(self, directory: Path) -> None:
        """Write the folder; `meta.json` comes last."""
        directory.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"item_id": self.item_ids}), directory / "item_ids.parquet")
        for name in _ARRAYS:
            np.save(directory / f"{name}.npy", np.ascontiguousarray(getattr(self, name)), allow_pickle=False)
        meta = {"format_version": FORMAT_VERSION, "rows": len(self.item_ids), "dim": self.query.shape[1]}
        (directory / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")

    @classmethod
    def load(cls, directory: Path) -> "Embeddings":
        """Memory-map the folder.

        Raises:
            ModelFormatError: a file is missing, of another format version, or of the wrong shape.
        """
        try:
            meta = json.loads((directory / "meta.json").read_text())
            if meta["format_version"] != FORMAT_VERSION:
                raise ModelFormatError(
                    f"{directory} has format version {meta['format_version']}, this code reads {FORMAT_VERSION}: "
                    "embed again"
                )
            item_ids = pq.read_table(directory / "item_ids.parquet")["item_id"].combine_chunks()
            arrays = {n: np.load(directory / f"{n}.npy", mmap_mode="r", allow_pickle=False) for n in _ARRAYS}
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            if isinstance(error, ModelFormatError):
                raise
            raise ModelFormatError(f"embeddings in {directory} can't be read ({error}): embed again") from error
        found = cls(item_ids=item_ids, **arrays)
        rows, dim, tail = meta["rows"], meta["dim"], len(found.tail_rows)
        for name, want in {"query": (rows, dim), "item": (rows, dim), "item_own": (tail, dim)}.items():
            if arrays[name].shape != want:
                raise ModelFormatError(
                    f"{directory / name}.npy has shape {arrays[name].shape}, expected {want}: embed again"
                )
        return found
