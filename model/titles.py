"""Title features: hashed word n-grams, weighted by tf-idf and reduced to a few dimensions by a truncated SVD."""

import itertools
import zlib
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def title_grams(titles: pa.ChunkedArray, bits: int) -> sp.csr_matrix:
    """Return (N, 2^bits) float32 CSR of hashed words and word pairs, 1 for each that a title contains.

    The hash is crc32, which is the same on every machine.

    Args:
        titles: N strings or nulls
        bits: binary logarithm of the number of columns
    """
    indices: list[int] = []
    indptr = [0]
    mask = (1 << bits) - 1
    for title in titles.to_pylist():
        indices.extend({zlib.crc32(gram.encode()) & mask for gram in _words_and_pairs(title or "")})
        indptr.append(len(indices))
    data = np.ones(len(indices), np.float32)
    matrix = sp.csr_matrix(
        (data, np.array(indices, np.int64), np.array(indptr, np.int64)), shape=(len(titles), 1 << bits)
    )
    matrix.sort_indices()
    return matrix


def fit_titles(grams: sp.csr_matrix, dim: int, seed: int) -> tuple[Floats, Floats]:
    """Return the basis (2^bits, dim) of the titles' tf-idf matrix, and the idf weights (2^bits,).

    The basis holds the leading right singular vectors, found by a randomised range finder with two power iterations
    (Halko et al. 2011). If there are fewer titles or n-grams than `dim`, the basis has fewer columns; if there are
    none, its shape is (0, 0). `torch.svd_lowrank` would save lines, but it draws another sketch, which would move every
    embedding.

    Args:
        grams: (N, 2^bits) CSR of `title_grams`
        dim: the most columns of the basis
        seed: seed of the random sketch
    """
    n = grams.shape[0]
    frequency = np.bincount(grams.indices, minlength=grams.shape[1])
    idf = np.where(frequency > 0, np.log((1 + n) / (1 + frequency)) + 1, 0).astype(np.float32)
    tfidf = grams @ sp.diags_array(idf)
    dim = min(dim, n, int((frequency > 0).sum()))
    if dim == 0:
        return np.zeros((0, 0), np.float32), np.zeros(0, np.float32)
    sketch = np.random.default_rng(seed).standard_normal((grams.shape[1], min(dim + 10, n))).astype(np.float32)
    for _ in range(2):
        sketch = np.linalg.qr(tfidf.T @ np.linalg.qr(tfidf @ sketch)[0])[0]
    _, _, right = np.linalg.svd(np.linalg.qr(tfidf @ sketch)[1], full_matrices=False)
    return np.ascontiguousarray((sketch @ right.T)[:, :dim], np.float32), idf


def title_vectors(titles: pa.ChunkedArray, basis: Floats, idf: Floats) -> Floats:
    """Return (N, dim) title vectors, not normalised; a title without a known n-gram has the zero vector.

    Args:
        titles: N strings or nulls
        basis: (2^bits, dim) from `fit_titles`
        idf: (2^bits,) from `fit_titles`
    """
    grams = title_grams(titles, int(np.log2(len(basis))))
    return np.asarray(grams @ (basis * idf[:, None]), np.float32)


def _words_and_pairs(title: str) -> Iterable[str]:
    words = title.casefold().split()
    yield from words
    yield from (f"{a} {b}" for a, b in itertools.pairwise(words))
