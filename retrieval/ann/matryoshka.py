"""Adaptive and funnel retrieval with Matryoshka embeddings (arXiv 2205.13147, section 4.3 and appendix F)."""

from __future__ import annotations

import numpy as np

from retrieval.arrays import Floats, Rows


def unit_prefix(vectors: Floats, dim: int) -> Floats:
    """Return the first dimensions of vectors, scaled to unit length; a prefix of zeros stays zero.

    Args:
        vectors: (n, D) float32.
        dim: length of the prefix, at most D.

    Returns:
        (n, dim) float32.
    """
    prefix = np.array(vectors[:, :dim], np.float32, order="C")
    length = np.sqrt(np.einsum("nd,nd->n", prefix, prefix))
    prefix /= np.maximum(length, 1e-12)[:, None]
    return prefix


def funnel(vector: Floats, item: Floats, bias: Floats, rows: Rows, dim: int, least: int) -> Rows:
    """Halve a shortlist repeatedly: each step doubles the prefix, ranks by it and keeps the better half.

    The caller still has to rank the remaining rows by the whole vectors.

    Args:
        vector: (D,) float32, the query.
        item: (N, D) float32, the vectors of all items.
        bias: (N,) float32, added to each cosine.
        rows: (S,) int64, the shortlist.
        dim: length of the indexed prefix that found the shortlist; the first halving uses 2 · dim dimensions.
        least: the number of rows that must be left.
    """
    while (dim := 2 * dim) < len(vector) and len(rows) > least:
        score = unit_prefix(item[rows, :dim], dim) @ unit_prefix(vector[None], dim)[0] + bias[rows]
        size = max(least, len(rows) // 2)
        rows = rows[np.argpartition(-score, size - 1)[:size]]
    return rows
