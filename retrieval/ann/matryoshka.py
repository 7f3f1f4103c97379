"""Adaptive and funnel retrieval with Matryoshka embeddings (arXiv 2205.13147, section 4.3 and appendix F)."""

from __future__ import annotations

import numpy as np

from retrieval.arrays import Floats, Rows


def shorter(vectors: Floats, dim: int) -> Floats:
    """The first `dim` dimensions of vectors (n, D) at unit length: (n, dim) float32. A prefix of zeros stays one."""
    prefix = np.array(vectors[:, :dim], np.float32, order="C")
    length = np.sqrt(np.einsum("nd,nd->n", prefix, prefix))
    prefix /= np.maximum(length, 1e-12)[:, None]
    return prefix


def funnel(vector: Floats, item: Floats, bias: Floats, rows: Rows, dim: int, least: int) -> Rows:
    """The rows (S,) that are left when prefixes of doubling size, from 2·dim on, each keep the better half, or `least`.

    What is left is to be ranked by the whole vectors. Shapes: vector (D,); item (N, D); bias (N,), added to a cosine.
    """
    while (dim := 2 * dim) < len(vector) and len(rows) > least:
        score = shorter(item[rows, :dim], dim) @ shorter(vector[None], dim)[0] + bias[rows]
        kept = max(least, len(rows) // 2)
        rows = rows[np.argpartition(-score, kept - 1)[:kept]]
    return rows
