"""Matryoshka representation learning (Kusupati et al., NeurIPS 2022, arXiv 2205.13147): prefixes that are embeddings.

A loss over each nested prefix, cut to unit length anew, teaches the first dimensions to do without the others.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def nested(loss: Callable[[Tensor, Tensor], Tensor], query: Tensor, candidate: Tensor, dims: Sequence[int]) -> Tensor:
    """The mean of a loss over the whole vectors and over each of their prefixes.

    Args:
        loss: of queries (B, d) and candidates (C, d) of unit length
        query: (B, D); candidate: (C, D); both of unit length
        dims: sizes of the prefixes, each below D
    """
    parts = [loss(F.normalize(query[:, :d]), F.normalize(candidate[:, :d])) for d in dims]
    return torch.stack([*parts, loss(query, candidate)]).mean()
