"""Learned feature selection: a concrete autoencoder's selectors choose K of the item's feature groups while training.

A selector is a relaxed one-hot choice among the groups, m = softmax((log α + g) / T) with Gumbel noise g (Abid et al.,
ICML 2019, arXiv 1901.09346). As T falls from 10 to 0.01 it comes to hold one group. What the network reads of a group
is its features times the sum of its selectors, so that the retrieval loss itself decides. The indirect
parameterisation log α = Ψ W + b (Nilsson et al., arXiv 2403.00563) ties the selectors together, and keeps them apart.
"""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from model.errors import ModelInputError
from model.features import FeatureMatrix, FittedFeatures

_HOT, _COLD = 10.0, 0.01
_LATENT = 32
_NEVER = -1e9
_CHOOSE = 1 / 3  # of the items
# Two groupings of the items are one and the same when each leaves so little of the other open (a share of its entropy).
_OPEN = 0.02


class GroupSelector(nn.Module):
    """K selectors of G feature groups.

    Args:
        group_of: (C,) int64, the group of each column that the network reads: rows of its table, then dense columns
        groups: G; keep: K, below G; barred: groups that are not to be chosen
        indirect: log α = Ψ W + b, instead of free parameters
    """

    def __init__(
        self, group_of: Tensor, groups: int, keep: int, *, barred: Sequence[int] = (), indirect: bool = True
    ) -> None:
        super().__init__()
        self.barred: Tensor
        self.register_buffer(
            "barred", torch.zeros(groups).index_fill(0, torch.tensor(barred, dtype=torch.int64), _NEVER)
        )
        self.group_of: Tensor
        self.register_buffer("group_of", group_of)
        self.temperature = _HOT
        latent = _LATENT if indirect else groups
        self.psi = nn.Parameter(torch.randn(keep, latent) if indirect else torch.zeros(keep, groups))
        self.map = nn.Parameter(
            torch.randn(latent, groups) / latent if indirect else torch.eye(groups), requires_grad=indirect
        )
        self.bias = nn.Parameter(torch.zeros(groups), requires_grad=indirect)

    @classmethod
    def of(cls, features: FittedFeatures, matrix: FeatureMatrix, keep: int) -> "GroupSelector":
        """Of the features of a catalogue.

        Raises:
            ModelInputError: there are ids among the features, or no more than `keep` groups.
        """
        if matrix.num_ids:
            raise ModelInputError("groups are selected without an id table: set [model.features] id_min_events above")
        sizes = [size for _, size in features.groups]
        barred = [group for group, first in enumerate(first_alike(matrix, sizes)) if first != group]
        most = len(sizes) - max(1, len(barred))
        if not 0 < keep <= most:
            copies = f" ({len(barred)} say what another one says)" if barred else ""
            raise ModelInputError(
                f"{keep} of {len(sizes)} feature groups{copies} cannot be selected: keep between 1 and {most}"
            )
        return cls(torch.repeat_interleave(torch.tensor(sizes)), len(sizes), keep, barred=barred)

    @property
    def logits(self) -> Tensor:
        """(K, G) log α."""
        return self.psi @ self.map + self.bias + self.barred

    def step(self, share: float) -> None:
        """Before each step: `share` of the schedule is over, and the temperature falls exponentially."""
        self.temperature = _HOT * (_COLD / _HOT) ** share

    def forward(self) -> Tensor:
        """(C,) what each column is multiplied by: relaxed choices in training, zeros and ones afterwards."""
        if self.training:
            gate = F.gumbel_softmax(self.logits, tau=self.temperature).sum(dim=0)
        else:
            gate = torch.zeros(self.map.shape[1], device=self.psi.device)
            gate[self.chosen()] = 1.0
        return gate[self.group_of]

    @torch.no_grad()
    def chosen(self) -> Tensor:
        """At most K distinct groups, ascending: the likeliest of each selector."""
        return torch.unique(self.logits.argmax(dim=1))

    def overlap(self) -> Tensor:
        """How many selectors too many hold a group, in expectation: what the loss adds, so that they keep apart."""
        return (self.logits.softmax(dim=1).sum(dim=0) - 1).clamp(min=0).sum()

    @torch.no_grad()
    def confidence(self) -> Tensor:
        """(G,) how surely at least one selector holds each group: 1 − Π_k (1 − α_kg / Σ α_k)."""
        return 1 - (1 - self.logits.softmax(dim=1)).prod(dim=0)


class SelectorOptimizer:
    """What moves the selectors: their loss on pairs of items that the features' table has not learned."""

    def __init__(self, selector: GroupSelector, lr: float) -> None:
        self._parameters = [weight for weight in selector.parameters() if weight.requires_grad]
        self._optimiser = torch.optim.Adam(self._parameters, lr=lr)

    def step(self, loss: Tensor) -> None:
        """One step by the gradient of the selectors alone."""
        for weight, gradient in zip(self._parameters, torch.autograd.grad(loss, self._parameters), strict=True):
            weight.grad = gradient
        self._optimiser.step()


def pairs_apart(pairs: NDArray[np.int64], items: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(pairs that the table learns from, pairs that choose among the groups), which have no item in common.

    A column of noise tells apart the items that it was learned with, and nothing else: it would be chosen by them.
    """
    apart = (np.random.default_rng(seed).random(items) < _CHOOSE)[pairs]
    learned, chooses = pairs[~apart.any(axis=1)], pairs[apart.all(axis=1)]
    return (learned, chooses) if len(learned) and len(chooses) else (pairs, pairs)


def first_alike(matrix: FeatureMatrix, sizes: Sequence[int]) -> list[int]:
    """For each group the first that says the same of the items under whatever names: itself, unless it is a copy."""
    starts = np.concatenate([[0], np.cumsum(sizes)])
    labels: list[NDArray[np.int64] | None] = []
    found: list[int] = []
    for group, size in enumerate(sizes):
        is_sparse = starts[group] + size <= matrix.sparse.shape[1]
        block = matrix.sparse[:, starts[group] : starts[group] + size] if is_sparse else None
        mine = None if block is None else _labels(block)
        alike = (other for other in range(group) if found[other] == other and _same(labels[other], mine))
        found.append(next(alike, group))
        labels.append(mine)
    return found


def _labels(block: sp.csr_matrix) -> NDArray[np.int64]:
    """(N,) a number for each distinct set of columns."""
    weight = np.random.default_rng(0).random(block.shape[1])
    return np.unique(block.astype(bool) @ weight, return_inverse=True)[1].astype(np.int64)


def _same(one: NDArray[np.int64] | None, other: NDArray[np.int64] | None) -> bool:
    if one is None or other is None:
        return False
    joint = _entropy(one * (other.max() + 1) + other)
    return bool(joint <= (1 + _OPEN) * min(_entropy(one), _entropy(other)))


def _entropy(labels: NDArray[np.int64]) -> float:
    share = np.unique(labels, return_counts=True)[1] / len(labels)
    return float(-(share * np.log(share)).sum())
