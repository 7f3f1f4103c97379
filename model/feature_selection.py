"""Learned feature selection: selectors choose K of the items' feature groups while the model is trained.

A selector is a relaxed one-hot choice among the groups, m = softmax((log α + g) / T), with Gumbel noise g (concrete
autoencoder, Abid et al., ICML 2019, arXiv 1901.09346). As T falls from 10 to 0.01, the selector settles on one group.
The network reads a group's features multiplied by the sum of all selectors' weights for that group, so that the
retrieval loss itself decides which groups are chosen. The indirect parameterisation log α = Ψ W + b (Nilsson et al.,
arXiv 2403.00563) couples the selectors, and keeps them from choosing the same group.
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
from model.ragged import offsets_from_lengths

_INITIAL_TEMPERATURE, _FINAL_TEMPERATURE = 10.0, 0.01
_LATENT = 32
_BARRED_LOGIT = -1e9
_SELECTOR_SHARE = 1 / 3  # share of the items whose pairs train the selectors
# Two groups are equivalent if their joint entropy exceeds the smaller of their two entropies by at most this share.
_EQUIVALENCE_TOLERANCE = 0.02


class GroupSelector(nn.Module):
    """K selectors of G feature groups.

    Args:
        group_of: (C,) int64, the group of each column that the network reads: table rows first, then dense columns
        groups: G
        keep: K, below G
        barred: groups that must not be chosen
        indirect: whether log α = Ψ W + b; otherwise log α is a free parameter
    """

    def __init__(
        self, group_of: Tensor, groups: int, keep: int, *, barred: Sequence[int] = (), indirect: bool = True
    ) -> None:
        super().__init__()
        self.barred: Tensor
        self.register_buffer(
            "barred", torch.zeros(groups).index_fill(0, torch.tensor(barred, dtype=torch.int64), _BARRED_LOGIT)
        )
        self.group_of: Tensor
        self.register_buffer("group_of", group_of)
        self.temperature = _INITIAL_TEMPERATURE
        latent = _LATENT if indirect else groups
        self.psi = nn.Parameter(torch.randn(keep, latent) if indirect else torch.zeros(keep, groups))
        self.map = nn.Parameter(
            torch.randn(latent, groups) / latent if indirect else torch.eye(groups), requires_grad=indirect
        )
        self.bias = nn.Parameter(torch.zeros(groups), requires_grad=indirect)

    @classmethod
    def for_features(cls, features: FittedFeatures, matrix: FeatureMatrix, keep: int) -> "GroupSelector":
        """Return selectors of a catalogue's feature groups; only the first of several equivalent groups may be chosen.

        Raises:
            ModelInputError: the features contain an id table, or `keep` is below 1, would keep every group, or exceeds
                the number of groups that may be chosen.
        """
        if matrix.num_ids:
            raise ModelInputError(
                "groups are selected without an id table: set [model.features] id_min_events above every item's events"
            )
        sizes = [size for _, size in features.groups]
        barred = [group for group, first in enumerate(first_equivalent_groups(matrix, sizes)) if first != group]
        limit = len(sizes) - max(1, len(barred))
        if not 0 < keep <= limit:
            copies = f" ({len(barred)} of them are equivalent to another)" if barred else ""
            raise ModelInputError(
                f"cannot select {keep} of {len(sizes)} feature groups{copies}: keep between 1 and {limit}"
            )
        return cls(torch.repeat_interleave(torch.tensor(sizes)), len(sizes), keep, barred=barred)

    @property
    def logits(self) -> Tensor:
        """(K, G) log α."""
        return self.psi @ self.map + self.bias + self.barred

    def step(self, share: float) -> None:
        """Set the temperature, which falls exponentially with the share of the schedule that is over."""
        self.temperature = _INITIAL_TEMPERATURE * (_FINAL_TEMPERATURE / _INITIAL_TEMPERATURE) ** share

    def forward(self) -> Tensor:
        """Return (C,) factors of the columns: relaxed choices in training, zeros and ones afterwards."""
        if self.training:
            gate = F.gumbel_softmax(self.logits, tau=self.temperature).sum(dim=0)
        else:
            gate = torch.zeros(self.map.shape[1], device=self.psi.device)
            gate[self.chosen()] = 1.0
        return gate[self.group_of]

    @torch.no_grad()
    def chosen(self) -> Tensor:
        """Return at most K distinct groups, ascending: the likeliest group of each selector."""
        return torch.unique(self.logits.argmax(dim=1))

    def overlap(self) -> Tensor:
        """Return the expected number of selectors of a group beyond the first, summed over all groups.

        As a penalty, this sum keeps selectors from choosing the same group.
        """
        return (self.logits.softmax(dim=1).sum(dim=0) - 1).clamp(min=0).sum()

    @torch.no_grad()
    def confidence(self) -> Tensor:
        """Return (G,) probabilities that at least one selector chooses the group: 1 − Π_k (1 − α_kg / Σ α_k)."""
        return 1 - (1 - self.logits.softmax(dim=1)).prod(dim=0)


class SelectorOptimizer:
    """Updates only the selectors, by the loss on pairs whose items do not train the feature table.

    Args:
        selector: the selectors to update
        lr: learning rate
    """

    def __init__(self, selector: GroupSelector, lr: float) -> None:
        self._parameters = [weight for weight in selector.parameters() if weight.requires_grad]
        self._optimizer = torch.optim.Adam(self._parameters, lr=lr)

    def step(self, loss: Tensor) -> None:
        """Take one step by the gradient of `loss` with respect to the selectors."""
        for weight, gradient in zip(self._parameters, torch.autograd.grad(loss, self._parameters), strict=True):
            weight.grad = gradient
        self._optimizer.step()


def split_pairs_by_items(
    pairs: NDArray[np.int64], num_items: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs that train the feature table and the pairs that train the selectors; they share no item.

    From a column of noise, the table can learn to tell apart the items that it is trained on, but no others. If the
    selectors learned from the same items, they would choose such a column. If there are too few pairs to split, both
    results are all pairs.

    Args:
        pairs: (P, 2) int64 item rows
        num_items: N
        seed: seed of the random split of the items
    """
    apart = (np.random.default_rng(seed).random(num_items) < _SELECTOR_SHARE)[pairs]
    table_pairs, selector_pairs = pairs[~apart.any(axis=1)], pairs[apart.all(axis=1)]
    return (table_pairs, selector_pairs) if len(table_pairs) and len(selector_pairs) else (pairs, pairs)


def first_equivalent_groups(matrix: FeatureMatrix, sizes: Sequence[int]) -> list[int]:
    """Return for each group the first group that divides the items in the same way, or the group itself if none does.

    Args:
        matrix: the items' features, without ids
        sizes: number of columns of each group, sparse groups first; a dense group is never a copy
    """
    starts = offsets_from_lengths(np.array(sizes))
    labels: list[NDArray[np.int64] | None] = []
    first: list[int] = []
    for group, size in enumerate(sizes):
        is_sparse = starts[group] + size <= matrix.sparse.shape[1]
        block = matrix.sparse[:, starts[group] : starts[group] + size] if is_sparse else None
        group_labels = None if block is None else _labels(block)
        equivalent = (
            earlier
            for earlier in range(group)
            if first[earlier] == earlier and _are_equivalent(labels[earlier], group_labels)
        )
        first.append(next(equivalent, group))
        labels.append(group_labels)
    return first


def _labels(block: sp.csr_matrix) -> NDArray[np.int64]:
    """Return (N,) numbers, equal for items that have the same set of columns."""
    weight = np.random.default_rng(0).random(block.shape[1])
    return np.unique(block.astype(bool) @ weight, return_inverse=True)[1].astype(np.int64)


def _are_equivalent(a: NDArray[np.int64] | None, b: NDArray[np.int64] | None) -> bool:
    if a is None or b is None:
        return False
    joint = _entropy(a * (b.max() + 1) + b)
    return bool(joint <= (1 + _EQUIVALENCE_TOLERANCE) * min(_entropy(a), _entropy(b)))


def _entropy(labels: NDArray[np.int64]) -> float:
    share = np.unique(labels, return_counts=True)[1] / len(labels)
    return float(-(share * np.log(share)).sum())
