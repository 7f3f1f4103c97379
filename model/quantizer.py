"""Semantic IDs: a residual quantiser as a bottleneck of the item side, trained on the retrieval loss.

An item's vector becomes the sum of one entry of each of L codebooks, level by level the nearest to what the levels
before left over (residual quantisation; Rajput et al., NeurIPS 2023, arXiv 2305.05065). The L entry numbers are its
semantic ID: items that share a prefix are alike, and the longer the prefix the more so.
"""

import math
from collections import deque

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import SemanticIdConfig
from model.kmeans import k_means, lloyd, squared_distances

_SETTLE = 3
# A code is dead that fewer than this share of an even use would name.
_DEAD = 0.05
_MEMORY = 0.99
_RECENT = 16
_REVIVE = 50


class ResidualQuantizer(nn.Module):
    """L codebooks of K entries for vectors of D dimensions whose M parts have length 1/√M, as LightSAGE gives them.

    Modes: `ste` takes the nearest entry and copies the gradient of the sum to the input (straight-through), with a
    codebook and a commitment loss; `gumbel` draws an entry by a Gumbel-softmax of the negative squared distances, so
    that the retrieval loss itself reaches input and codebooks through the distances. With `simvq` a codebook is C W
    with C fixed and W learned (Zhu et al., arXiv 2411.02038): all entries move together, and none dies.
    """

    def __init__(self, dim: int, config: SemanticIdConfig, members: int = 1) -> None:
        super().__init__()
        self.config, self.members = config, members
        levels, size = config.levels, config.size
        self.entries = nn.Parameter(torch.randn(levels, size, dim) / math.sqrt(dim), requires_grad=not config.simvq)
        self.maps = nn.Parameter(torch.eye(dim).repeat(levels, 1, 1), requires_grad=config.simvq)
        self.sharpness = nn.Parameter(torch.zeros(levels), requires_grad=config.mode == "gumbel")
        self.use: Tensor
        self.register_buffer("use", torch.full((levels, size), 1 / size))
        self.started: Tensor
        self.register_buffer("started", torch.tensor(False))
        self.temperature = config.cold
        self._steps = 0
        self._recent: deque[Tensor] = deque(maxlen=_RECENT)

    def codebooks(self) -> Tensor:
        """(L, K, D)."""
        return self.entries @ self.maps if self.config.simvq else self.entries

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """The quantised vectors with gradients, and what they add to the loss; as they are before the start.

        Args:
            vectors: (B, D)
        Returns:
            (B, D) of the same lengths, a scalar
        """
        if self.training:
            self._recent.append(vectors.detach())
        if not self.started:
            return vectors, vectors.new_zeros(())
        drawn = self.config.mode == "gumbel" and self.training
        left, penalty = vectors, vectors.new_zeros(())
        for level, book in enumerate(self.codebooks()):
            distance = squared_distances(left, book)
            if drawn:
                chosen = F.gumbel_softmax(-distance * self.sharpness[level].exp(), tau=self.temperature, hard=True)
                codes, entry = chosen.argmax(dim=1), chosen @ book
            else:
                codes = distance.argmin(dim=1)
                entry = book[codes]
            commitment = (left - book[codes].detach()).square().sum(dim=1).mean()
            penalty = penalty + (left.detach() - book[codes]).square().sum(dim=1).mean()
            penalty = penalty + self.config.commitment * commitment
            if self.training:
                self._count(level, codes)
            left = left - (entry if drawn else entry.detach())
        whole = vectors - left if drawn else vectors + (-left).detach()
        return self._unit(whole), self.config.penalty * penalty

    def _unit(self, vectors: Tensor) -> Tensor:
        parts = F.normalize(vectors.view(len(vectors), self.members, -1), dim=2)
        return parts.reshape(len(vectors), -1) / math.sqrt(self.members)

    @torch.no_grad()
    def encode(self, vectors: Tensor) -> Tensor:
        """(B, L) int64 codes of (B, D) vectors: the nearest entry of each level."""
        codes, left = [], vectors
        for book in self.codebooks():
            codes.append(squared_distances(left, book).argmin(dim=1))
            left = left - book[codes[-1]]
        return torch.stack(codes, dim=1)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """(B, D) vectors of (B, L) codes."""
        books = self.codebooks()
        return self._unit(torch.stack([books[level, codes[:, level]] for level in range(len(books))]).sum(dim=0))

    @torch.no_grad()
    def start(self) -> None:
        """Begin at the residual k-means of the batches seen last, of at least K vectors together."""
        left = vectors = torch.cat([*self._recent])
        self.maps.copy_(torch.eye(vectors.shape[1], device=vectors.device).expand_as(self.maps))
        for level in range(len(self.entries)):
            self.entries[level] = k_means(left, self.config.size)
            distance = squared_distances(left, self.entries[level])
            left = left - self.entries[level][distance.argmin(dim=1)]
            if self.config.mode == "gumbel":  # the distances of the runners-up are about one unit of the softmax
                gap = distance.topk(2, dim=1, largest=False).values.diff(dim=1).median()
                self.sharpness[level] = -gap.clamp(min=1e-6).log()
        self.use.fill_(1 / self.config.size)
        self.started.fill_(True)

    def step(self, share: float) -> None:
        """Before each step: `share` of the schedule is over. Starts when it is time to, warms up, wakes the dead."""
        config = self.config
        over = (share - config.warm_up) / (1 - config.warm_up)
        self.temperature = config.cold * (config.hot / config.cold) ** max(0.0, over)
        self._steps += 1
        if over >= 0 and self._recent and not self.started:
            self.start()
        elif self.started and self._steps % _REVIVE == 0:
            self.revive()

    @torch.no_grad()
    def revive(self) -> int:
        """Put dead entries where some of the last batch leave something over; how many there were."""
        left, revived = self._recent[-1], 0
        for level, (book, use) in enumerate(zip(self.codebooks(), self.use, strict=True)):
            dead = (use < _DEAD / self.config.size).nonzero().squeeze(1)[: len(left)]
            if len(dead):
                taken = left[torch.randperm(len(left), device=left.device)[: len(dead)]]
                unmapped = torch.linalg.lstsq(self.maps[level].T, taken.T).solution.T if self.config.simvq else taken
                self.entries[level, dead] = unmapped
                use[dead] = 1 / self.config.size
                revived += len(dead)
            left = left - book[squared_distances(left, book).argmin(dim=1)]
        return revived

    @torch.no_grad()
    def finalize_codebooks(self, vectors: Tensor) -> None:
        """In the end: each level's entries to the means of what the (N, D) vectors of all items leave over there.

        Training sees vectors with dropout, and whatever of the deeper levels it told apart no item may come to name.
        """
        if not self.started:
            return
        left = vectors
        for level, book in enumerate(self.codebooks()):
            self.entries[level] = lloyd(left, book, _SETTLE)
            left = left - self.entries[level][squared_distances(left, self.entries[level]).argmin(dim=1)]
        self.maps.copy_(torch.eye(vectors.shape[1], device=vectors.device).expand_as(self.maps))

    @torch.no_grad()
    def _count(self, level: int, codes: Tensor) -> None:
        share = torch.bincount(codes, minlength=self.config.size) / len(codes)
        self.use[level].mul_(_MEMORY).add_(share, alpha=1 - _MEMORY)
