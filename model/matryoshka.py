"""Matryoshka representation learning: the first dimensions of an embedding are an embedding themselves.

The loss is also taken over each prefix of the vectors, scaled to unit length. So the first dimensions learn to do
without the others (Kusupati et al., NeurIPS 2022, arXiv 2205.13147).
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def nested_loss(
    loss: Callable[[Tensor, Tensor], Tensor], query: Tensor, candidate: Tensor, prefixes: Sequence[int]
) -> Tensor:
    """Return the mean of a loss over the whole vectors and over each of their prefixes.

    Args:
        loss: takes queries (B, d) and candidates (C, d) of unit length, and returns a scalar
        query: (B, D) of unit length
        candidate: (C, D) of unit length
        prefixes: sizes of the prefixes, each below D
    """
    parts = [loss(F.normalize(query[:, :d]), F.normalize(candidate[:, :d])) for d in prefixes]
    return torch.stack([*parts, loss(query, candidate)]).mean()
