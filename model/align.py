"""Alignment: rotates new embeddings as close to those of the previous version as a rotation can bring them.

A rotation changes no inner product, and so no result. But while servers switch from one version to the next, a query
vector of one version may be searched in the index of the other. After the rotation, this search finds about the same
neighbours.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from model.embeddings import Embeddings

Floats = NDArray[np.float32]


def procrustes_rotation(source: Floats, target: Floats) -> NDArray[np.float64]:
    """Return the (D, D) orthogonal R that brings `source` @ R closest to `target` (Schönemann 1966).

        R = U Vᵀ,  U Σ Vᵀ = sourceᵀ target

    Args:
        source: (n, D) vectors to rotate
        target: (n, D) vectors of the same items, row by row
    """
    left, _, right = np.linalg.svd(source.T.astype(np.float64) @ target)
    return left @ right


def align_embeddings(
    embeddings: Embeddings, previous: Embeddings, prefixes: Sequence[int] = ()
) -> tuple[Embeddings, float] | None:
    """Rotate embeddings onto previous ones; the items that both contain decide the rotation.

    Args:
        embeddings: the embeddings to rotate
        previous: the embeddings to rotate them onto
        prefixes: ascending sizes of Matryoshka prefixes, whose inner products must not change either; the dimensions
            between two successive sizes are rotated among themselves
    Returns:
        the rotated embeddings, and the mean cosine between the new and the previous vectors of the shared items; None
        if the sizes differ, or if there are fewer shared items than dimensions
    """
    dim = embeddings.query.shape[1]
    index = pc.index_in(embeddings.item_ids, previous.item_ids)
    shared = np.flatnonzero(~index.is_null().to_numpy(zero_copy_only=False))
    if previous.query.shape[1] != dim or len(shared) < dim:
        return None
    before = index.drop_null().to_numpy()
    source = np.concatenate([embeddings.query[shared], embeddings.item[shared]])
    target = np.concatenate([previous.query[before], previous.item[before]])
    rotation = np.zeros((dim, dim), np.float32)
    for band in (slice(a, b) for a, b in pairwise([0, *prefixes, dim])):
        rotation[band, band] = procrustes_rotation(source[:, band], target[:, band])
    rotated = {name: getattr(embeddings, name) @ rotation for name in ("query", "item", "item_unaveraged")}
    return replace(embeddings, **rotated), float(np.einsum("nd,nd->n", source @ rotation, target).mean())
