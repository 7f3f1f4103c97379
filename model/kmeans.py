"""k-means by Lloyd's rounds on torch tensors, from which the codebooks of semantic IDs start."""

import torch
from torch import Tensor

from model.errors import ModelInputError

_LLOYD = 10


def squared_distances(vectors: Tensor, entries: Tensor) -> Tensor:
    """(B, K) of (B, D) to (K, D), with gradients to both."""
    cross = vectors @ entries.T
    return (vectors.square().sum(dim=1, keepdim=True) + entries.square().sum(dim=1)).sub(cross, alpha=2)


def k_means(vectors: Tensor, size: int) -> Tensor:
    """(K, D) centres of (n, D) vectors by ten rounds of Lloyd's from some of them."""
    centres = vectors[torch.randperm(len(vectors), device=vectors.device)[:size]].clone()
    if len(centres) < size:
        raise ModelInputError(
            f"{len(vectors)} vectors cannot start {size} codes a level: set [model.semantic_ids] size lower"
        )
    return lloyd(vectors, centres, _LLOYD)


def lloyd(vectors: Tensor, centres: Tensor, rounds: int) -> Tensor:
    """(K, D) centres after so many rounds of Lloyd's; an empty cluster restarts at a vector far out."""
    for _ in range(rounds):
        distance, nearest = squared_distances(vectors, centres).min(dim=1)
        counts = torch.bincount(nearest, minlength=len(centres))
        sums = torch.zeros_like(centres).index_add_(0, nearest, vectors)
        empty = (counts == 0).nonzero().squeeze(1)[: len(vectors)]
        centres = sums / counts.clamp(min=1)[:, None]
        centres[empty] = vectors[distance.topk(len(empty)).indices]
    return centres
