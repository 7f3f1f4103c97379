"""Ragged rows: rows of different lengths stored one after another, with an array of offsets (as in CSR)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def offsets_from_lengths(lengths: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return (R + 1,) offsets: row i holds the entries from offsets[i] up to offsets[i + 1].

    Args:
        lengths: (R,) number of entries of each row
    """
    return np.concatenate([[0], np.cumsum(lengths)])


def ragged_entries(offsets: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the positions of all entries of the chosen rows, and the offset at which each row starts among them.

    Args:
        offsets: (R + 1,) int64 offsets of all rows
        rows: (B,) int64 chosen rows; a row may occur more than once
    Returns:
        (total length of the chosen rows,) int64 positions, row after row; (B,) int64 offsets into these positions
    """
    start = offsets[rows]
    lengths = offsets[rows + 1] - start
    starts = lengths.cumsum(0) - lengths
    positions = torch.arange(int(lengths.sum()), device=rows.device) + torch.repeat_interleave(start - starts, lengths)
    return positions, starts
