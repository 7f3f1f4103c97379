"""Small helpers that several folders share: offsets of lists, runs of equal keys, and hashes of numbers and texts."""

from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

# Stands for "no value" where integers are compared; it is below every time and every sequence number.
INT64_MIN = np.iinfo(np.int64).min


def offsets_from_lengths(lengths: Any) -> Ints:
    """Return the offsets, (N + 1,) int64, of lists of the given lengths, (N,), that stand one after the other."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def starts_of_runs(*keys: NDArray[Any]) -> Ints:
    """Return the positions at which runs of equal keys begin.

    Args:
        keys: one or more arrays (N,), not empty. The elements of all arrays at one position form one key; equal keys
            stand side by side.
    """
    changes = np.zeros(len(keys[0]) - 1, np.bool_)
    for key in keys:
        changes |= key[1:] != key[:-1]
    return np.flatnonzero(np.concatenate([[True], changes]))


def hash_text(text: str) -> int:
    """Return a 64-bit hash of a text, the same in every run."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


def split_mix64(x: Any) -> Any:
    """Scramble uint64 values with the finaliser of SplitMix64 (Steele, Lea and Flood 2014).

    Works on numpy arrays, and on scalars in compiled code, where integers wrap without a warning.
    """
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
