"""Learned feature selection: a concrete autoencoder's selectors choose K of the item's feature groups while training.

A selector is a relaxed one-hot choice among the groups, m = softmax((log α + g) / T) with Gumbel noise g (Abid et al.,
ICML 2019, arXiv 1901.09346). As T falls from 10 to 0.01 it comes to hold one group. What the network reads of a group
is its features times the sum of its selectors, so that the retrieval loss itself decides. The indirect
parameterisation log α = Ψ W + b (Nilsson et al., arXiv 2403.00563) ties the selectors together, and keeps them apart.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.errors import ModelInputError
from model.features import FeatureMatrix, FittedFeatures

_HOT, _COLD = 10.0, 0.01
_LATENT = 32


class GroupSelector(nn.Module):
    """K selectors of G feature groups.

    Args:
        group_of: (C,) int64, the group of each column that the network reads: rows of its table, then dense columns
        groups: G; keep: K, below G
        indirect: log α = Ψ W + b, instead of free parameters
    """

    def __init__(self, group_of: Tensor, groups: int, keep: int, *, indirect: bool = True) -> None:
        super().__init__()
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
        if not 0 < keep < len(sizes):
            raise ModelInputError(
                f"{keep} of {len(sizes)} feature groups cannot be selected: keep between 1 and {len(sizes) - 1}"
            )
        return cls(torch.repeat_interleave(torch.tensor(sizes)), len(sizes), keep)

    @property
    def logits(self) -> Tensor:
        """(K, G) log α."""
        return self.psi @ self.map + self.bias

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

    @torch.no_grad()
    def confidence(self) -> Tensor:
        """(G,) how surely at least one selector holds each group: 1 − Π_k (1 − α_kg / Σ α_k)."""
        return 1 - (1 - self.logits.softmax(dim=1)).prod(dim=0)
