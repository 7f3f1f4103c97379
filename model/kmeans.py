"""k-means on torch tensors; the codebooks of semantic IDs start from its centres."""

import torch
from torch import Tensor

from model.errors import ModelInputError

_ROUNDS = 10


def squared_distances(vectors: Tensor, entries: Tensor) -> Tensor:
    """Return (B, K) squared Euclidean distances, differentiable in both arguments.

    Args:
        vectors: (B, D)
        entries: (K, D)
    """
    cross = vectors @ entries.T
    return (vectors.square().sum(dim=1, keepdim=True) + entries.square().sum(dim=1)).sub(cross, alpha=2)


def k_means(vectors: Tensor, size: int) -> Tensor:
    """Return (K, D) centres after ten rounds of Lloyd's algorithm, which starts at K of the vectors, drawn at random.

    Args:
        vectors: (n, D)
        size: K
    Raises:
        ModelInputError: there are fewer vectors than centres.
    """
    centres = vectors[torch.randperm(len(vectors), device=vectors.device)[:size]].clone()
    if len(centres) < size:
        raise ModelInputError(
            f"{len(vectors)} vectors cannot start {size} codes a level: set [model.semantic_ids] size lower"
        )
    return lloyd(vectors, centres, _ROUNDS)


def lloyd(vectors: Tensor, centres: Tensor, rounds: int) -> Tensor:
    """Return (K, D) centres after some rounds of Lloyd's algorithm.

    An empty cluster restarts at one of the vectors that are farthest from their centres.

    Args:
        vectors: (n, D)
        centres: (K, D) initial centres
        rounds: number of rounds
    """
    for _ in range(rounds):
        distance, nearest = squared_distances(vectors, centres).min(dim=1)
        counts = torch.bincount(nearest, minlength=len(centres))
        sums = torch.zeros_like(centres).index_add_(0, nearest, vectors)
        empty = (counts == 0).nonzero().squeeze(1)[: len(vectors)]
        centres = sums / counts.clamp(min=1)[:, None]
        centres[empty] = vectors[distance.topk(len(empty)).indices]
    return centres
