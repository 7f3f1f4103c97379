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
_AT_ONCE = 1024  # sessions: beyond that a batch only takes memory


@dataclass(frozen=True, eq=False)
class SessionEncoder:
    """From the most recent items to one query vector in the space of the index.

    network: an ONNX model of (B, L', D) float32 `vectors` and (B, L') bool `present` to (B, D) float32 `query`; inputs:
    (N, D) float32, a row an item, role `session_input`; length: L, the most items that it reads.
    """

    network: bytes
    inputs: Floats
    length: int

    @classmethod
    def read(cls, folder: Path, length: int) -> SessionEncoder:
        """From its two files in an index folder.

        Raises:
            IndexFolderError: one is missing or damaged, or onnxruntime is not installed.
        """
        try:
            found = cls((folder / NETWORK).read_bytes(), load_array(folder / INPUTS), length)
        except OSError as error:
            raise IndexFolderError(f"{folder / NETWORK}: {error.strerror}; build the index again") from error
        try:
            found._try()  # a network that cannot run is refused when it is read, not when it is asked
        except ImportError:
            raise IndexFolderError(
                f"{folder} has a session encoder, which needs onnxruntime: pip install onnxruntime"
            ) from None
        except Exception as error:  # onnxruntime's errors have no common class
            raise IndexFolderError(f"{folder / NETWORK}: is no network that onnxruntime reads ({error})") from error
        return found

    def write(self, folder: Path) -> None:
        """Both files."""
        (folder / NETWORK).write_bytes(self.network)
        np.save(folder / INPUTS, np.ascontiguousarray(self.inputs, np.float32), allow_pickle=False)

    def vectors(self, queries: Queries) -> Floats:
        """(n, D) float32, L2-normalised, of the queries' most recent items."""
        out = np.empty((len(queries), self.inputs.shape[1]), np.float32)
        # Those of about one length together: padding would be most of the work.
        order = np.argsort(np.diff(queries.offsets), kind="stable")
        for a in range(0, len(order), _AT_ONCE):
            which = order[a : a + _AT_ONCE]
            starts, ends = queries.offsets[which], queries.offsets[which + 1]
            width = self.length if self._padded else int(min(self.length, (ends - starts).max()))
            rows, present = last_rows(queries.rows, starts, ends, width)
            out[which] = self._session.run(None, {"vectors": self.inputs[rows], "present": present})[0]
        return out

    def _try(self) -> None:
        if len(self.inputs):
            width = self.length if self._padded else 1
            session = {"vectors": self.inputs[np.zeros((1, width), int)], "present": np.ones((1, width), bool)}
            vector = self._session.run(None, session)[0]
            if vector.shape != (1, self.inputs.shape[1]) or not np.isfinite(vector).all():
                raise ValueError(f"it gives {vector.shape}, expected {(1, self.inputs.shape[1])} numbers")

    @cached_property
    def _padded(self) -> bool:
        """Whether the network reads sessions of one length only."""
        return isinstance(self._session.get_inputs()[0].shape[1], int)

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # A request is too small to be shared, and threads that wait for one spin.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(self.network, options, providers=["CPUExecutionProvider"])


def last_rows(rows: Rows, starts: Rows, ends: Rows, width: int) -> tuple[Rows, Mask]:
    """(B, width) int64 the last rows of each stretch, padded in front with 0; and which are there."""
    place = ends[:, None] - np.arange(width, 0, -1)
    present = place >= starts[:, None]
    return np.where(present, rows[np.maximum(place, 0)], 0), present
