"""Embeddings of the whole catalogue in three roles, and their folder, which can be read without torch."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from model.codec import read_versioned, reading
from model.errors import ModelFormatError

FORMAT_VERSION = 2
_REMEDY = "embed again"
_FILES = {
    "query": "query.npy",
    "item": "item.npy",
    "tail_rows": "tail_rows.npy",
    "item_unaveraged": "item_own.npy",
    "prior": "prior.npy",
}


@dataclass(frozen=True)
class Embeddings:
    """Vectors of N items, of which T are tail items with events.

    Shapes:
        item_ids: (N,) strings, sorted; the row order of every matrix
        query: (N, D) float32, L2-normalised: each item as the viewed item
        item: (N, D) float32, L2-normalised: each item as a candidate
        tail_rows: (T,) int64, ascending: rows of the tail items with at least one event
        item_unaveraged: (T, D) float32, L2-normalised: the tail items as candidates, by their own features instead of
            their group's mean (the files call this role `item_own`)
        prior: (N,) float32: log of the recent change in demand, see `model.prior`
    """

    item_ids: pa.Array
    query: NDArray[np.float32]
    item: NDArray[np.float32]
    tail_rows: NDArray[np.int64]
    item_unaveraged: NDArray[np.float32]
    prior: NDArray[np.float32]

    def save(self, directory: Path) -> None:
        """Write the folder, `meta.json` last."""
        directory.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"item_id": self.item_ids}), directory / "item_ids.parquet")
        for name, file in _FILES.items():
            np.save(directory / file, np.ascontiguousarray(getattr(self, name)), allow_pickle=False)
        meta = {"format_version": FORMAT_VERSION, "rows": len(self.item_ids), "dim": self.query.shape[1]}
        (directory / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")

    @classmethod
    def load(cls, directory: Path) -> "Embeddings":
        """Read the folder; the matrices are memory-mapped.

        Raises:
            ModelFormatError: a file is missing, corrupt, of another format version or of the wrong shape.
        """
        meta = read_versioned(directory / "meta.json", FORMAT_VERSION, _REMEDY)
        with reading(directory / "meta.json", _REMEDY):
            rows, dim = int(meta["rows"]), int(meta["dim"])
        with reading(directory / "item_ids.parquet", _REMEDY):
            item_ids = pq.read_table(directory / "item_ids.parquet")["item_id"].combine_chunks()
        arrays = {}
        for name, file in _FILES.items():
            with reading(directory / file, _REMEDY):
                arrays[name] = np.load(directory / file, mmap_mode="r", allow_pickle=False)
        shapes = {
            "query": (rows, dim),
            "item": (rows, dim),
            "item_unaveraged": (arrays["tail_rows"].size, dim),
            "prior": (rows,),
        }
        for name, expected in shapes.items():
            if arrays[name].shape != expected:
                raise ModelFormatError(
                    f"{directory / _FILES[name]} has shape {arrays[name].shape}, expected {expected}: {_REMEDY}"
                )
        if len(item_ids) != rows:
            raise ModelFormatError(
                f"{directory / 'item_ids.parquet'} has {len(item_ids)} rows, expected {rows}: {_REMEDY}"
            )
        return cls(item_ids=item_ids, **arrays)
