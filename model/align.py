"""Alignment: tonight's space, turned so that it lies on yesterday's as well as a rotation can make it.

A rotation changes no inner product, and so no result; but a query vector of one version then finds its neighbours in
the other's index, as happens while servers go over from one to the other.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from model.embeddings import Embeddings

Floats = NDArray[np.float32]


def procrustes_rotation(of: Floats, onto: Floats) -> NDArray[np.float64]:
    """(D, D) orthogonal R with `of` @ R as near to `onto` as can be: orthogonal Procrustes (Schönemann 1966).

        R = U Vᵀ,  U Σ Vᵀ = ofᵀ onto

    Args:
        of, onto: (n, D), row by row the same thing in both spaces.
    """
    left, _, right = np.linalg.svd(of.T.astype(np.float64) @ onto)
    return left @ right


def align_embeddings(
    embeddings: Embeddings, previous: Embeddings, prefixes: Sequence[int] = ()
) -> tuple[Embeddings, float] | None:
    """The embeddings turned onto the previous ones by the items that both have; and the mean cosine of these then.

    Args:
        prefixes: ascending sizes of Matryoshka prefixes, whose inner products must stay as well: what lies between two
            of them turns by itself.

    Returns:
        None where the sizes differ or there are fewer shared items than dimensions, which say too little.
    """
    dim = embeddings.query.shape[1]
    place = pc.index_in(embeddings.item_ids, previous.item_ids)
    shared = np.flatnonzero(~place.is_null().to_numpy(zero_copy_only=False))
    if previous.query.shape[1] != dim or len(shared) < dim:
        return None
    before = place.drop_null().to_numpy()
    of = np.concatenate([embeddings.query[shared], embeddings.item[shared]])
    onto = np.concatenate([previous.query[before], previous.item[before]])
    turn = np.zeros((dim, dim), np.float32)
    for band in (slice(a, b) for a, b in pairwise([0, *prefixes, dim])):
        turn[band, band] = procrustes_rotation(of[:, band], onto[:, band])
    turned = {name: getattr(embeddings, name) @ turn for name in ("query", "item", "item_unaveraged")}
    return replace(embeddings, **turned), float(np.einsum("nd,nd->n", of @ turn, onto).mean())
