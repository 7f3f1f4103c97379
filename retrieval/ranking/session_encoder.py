"""The session encoder as it is served: an ONNX network over the items' input vectors, run without torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.arrays import Floats, Mask, Rows
from retrieval.catalogue.items import load_array
from retrieval.errors import IndexFolderError
from retrieval.queries import Queries

NETWORK, INPUTS = "session.onnx", "session_input.npy"
# Number of sessions in one run of the network; larger batches take more memory and save no time.
_BATCH = 1024


@dataclass(frozen=True, eq=False)
class SessionEncoder:
    """Encodes the most recent items as one query vector in the space of the index.

    network: an ONNX model that maps (B, L', D) float32 `vectors` and (B, L') bool `present` to (B, D) float32 `query`.
    inputs: (N, D) float32, one row per item, role `session_input`. length: L, the largest number of items to read.
    """

    network: bytes
    inputs: Floats
    length: int

    @classmethod
    def read(cls, folder: Path, length: int) -> SessionEncoder:
        """Read the two files of an encoder from an index folder, and run it once.

        Raises:
            IndexFolderError: the network is missing or cannot run, or onnxruntime is not installed.
            CatalogueError: the input vectors are missing or damaged.
        """
        try:
            encoder = cls((folder / NETWORK).read_bytes(), load_array(folder / INPUTS), length)
        except OSError as error:
            raise IndexFolderError(f"{folder / NETWORK}: {error.strerror}; build the index again") from error
        try:
            encoder._try()  # a network that cannot run is refused here, not at the first request
        except ImportError:
            raise IndexFolderError(
                f"{folder} has a session encoder, which needs onnxruntime: pip install onnxruntime"
            ) from None
        except Exception as error:  # onnxruntime's errors have no common class
            raise IndexFolderError(
                f"{folder / NETWORK}: is not a network that onnxruntime can read ({error})"
            ) from error
        return encoder

    def write(self, folder: Path) -> None:
        """Write both files into an index folder."""
        (folder / NETWORK).write_bytes(self.network)
        np.save(folder / INPUTS, np.ascontiguousarray(self.inputs, np.float32), allow_pickle=False)

    def vectors(self, queries: Queries) -> Floats:
        """Encode the most recent items of each query: (n, D) float32, L2-normalised."""
        out = np.empty((len(queries), self.inputs.shape[1]), np.float32)
        # Batches of about the same length, because otherwise padding would be most of the work.
        order = np.argsort(np.diff(queries.offsets), kind="stable")
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            starts, ends = queries.offsets[batch], queries.offsets[batch + 1]
            width = self.length if self._padded else int(min(self.length, (ends - starts).max()))
            rows, present = last_rows(queries.rows, starts, ends, width)
            out[batch] = self._session.run(None, {"vectors": self.inputs[rows], "present": present})[0]
        return out

    def _try(self) -> None:
        if len(self.inputs):
            width = self.length if self._padded else 1
            session = {"vectors": self.inputs[np.zeros((1, width), int)], "present": np.ones((1, width), bool)}
            vector = self._session.run(None, session)[0]
            if vector.shape != (1, self.inputs.shape[1]) or not np.isfinite(vector).all():
                raise ValueError(f"it gives {vector.shape}, expected {(1, self.inputs.shape[1])} finite numbers")

    @cached_property
    def _padded(self) -> bool:
        """Whether the network reads only sessions of one fixed length."""
        return isinstance(self._session.get_inputs()[0].shape[1], int)

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # A request is too small to be split among threads, and idle threads spin while they wait.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(self.network, options, providers=["CPUExecutionProvider"])


def last_rows(rows: Rows, starts: Rows, ends: Rows, width: int) -> tuple[Rows, Mask]:
    """Return the last rows of each stretch, padded in front with row 0.

    Args:
        rows: (V,) int64.
        starts: (B,) int64, where each stretch of `rows` starts.
        ends: (B,) int64, where each stretch ends.
        width: how many rows of each stretch to return.

    Returns:
        (rows (B, width) int64, mask (B, width) bool of the entries that are not padding).
    """
    position = ends[:, None] - np.arange(width, 0, -1)
    present = position >= starts[:, None]
    return np.where(present, rows[np.maximum(position, 0)], 0), present
