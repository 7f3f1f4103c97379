"""Semantic IDs: a residual quantiser as a bottleneck of the item side, trained with the retrieval loss.

An item's vector becomes a sum of L entries, one from each codebook. Each level takes the entry nearest to the residual
that the levels before it leave (residual quantisation; Rajput et al., NeurIPS 2023, arXiv 2305.05065). The L entry
numbers are the item's semantic ID: items with a common prefix are similar, and the longer the prefix, the more so.
"""

import math
from collections import deque

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import SemanticIdConfig
from model.kmeans import k_means, lloyd, squared_distances

_FINAL_ROUNDS = 3  # rounds of Lloyd's algorithm when the codebooks are finalised
# An entry is dead if its share of use is below this fraction of 1 / K, the share if all entries were used equally.
_DEAD_FRACTION = 0.05
_USE_DECAY = 0.99  # decay per batch of the moving average of use
_RECENT_BATCHES = 16  # the codebooks start from the vectors of this many batches
_REVIVE_EVERY = 50  # steps


class ResidualQuantizer(nn.Module):
    """L codebooks of K entries, for vectors of D dimensions whose M parts have length 1/√M, as LightSAGE returns them.

    Mode `ste` takes the nearest entry and copies the gradient of the sum to the input (straight-through). Mode `gumbel`
    draws an entry by a Gumbel-softmax of the negative squared distances, so that the gradient of the retrieval loss
    reaches input and codebooks through the distances. Both modes add a codebook and a commitment loss. With `simvq`, a
    codebook is C W with C fixed and W learned (Zhu et al., arXiv 2411.02038): all entries move together, so that fewer
    of them die.

    Args:
        dim: D
        config: L, K, the mode and its schedule
        members: M
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
        self.temperature = config.initial_temperature
        self._steps = 0
        self._recent: deque[Tensor] = deque(maxlen=_RECENT_BATCHES)

    def codebooks(self) -> Tensor:
        """Return the entries (L, K, D)."""
        return self.entries @ self.maps if self.config.simvq else self.entries

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return the quantised vectors with gradients, and the penalty for the loss.

        Before the quantiser starts, the vectors are returned unchanged, with a penalty of 0.

        Args:
            vectors: (B, D)
        Returns:
            (B, D) vectors of the same lengths; the penalty, a scalar
        """
        if self.training:
            self._recent.append(vectors.detach())
        if not self.started:
            return vectors, vectors.new_zeros(())
        drawn = self.config.mode == "gumbel" and self.training
        residual, penalty = vectors, vectors.new_zeros(())
        for level, book in enumerate(self.codebooks()):
            distance = squared_distances(residual, book)
            if drawn:
                choice = F.gumbel_softmax(-distance * self.sharpness[level].exp(), tau=self.temperature, hard=True)
                codes, entry = choice.argmax(dim=1), choice @ book
            else:
                codes = distance.argmin(dim=1)
                entry = book[codes]
            commitment = (residual - book[codes].detach()).square().sum(dim=1).mean()
            penalty = penalty + (residual.detach() - book[codes]).square().sum(dim=1).mean()
            penalty = penalty + self.config.commitment * commitment
            if self.training:
                self._count_use(level, codes)
            residual = residual - (entry if drawn else entry.detach())
        total = vectors - residual if drawn else vectors + (-residual).detach()
        return self._normalise(total), self.config.penalty * penalty

    def _normalise(self, vectors: Tensor) -> Tensor:
        """Give each member's part the length 1/√M."""
        parts = F.normalize(vectors.view(len(vectors), self.members, -1), dim=2)
        return parts.reshape(len(vectors), -1) / math.sqrt(self.members)

    @torch.no_grad()
    def encode(self, vectors: Tensor) -> Tensor:
        """Return (B, L) int64 codes of (B, D) vectors: the nearest entry of each level."""
        codes, residual = [], vectors
        for book in self.codebooks():
            codes.append(squared_distances(residual, book).argmin(dim=1))
            residual = residual - book[codes[-1]]
        return torch.stack(codes, dim=1)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Return (B, D) vectors of (B, L) codes."""
        books = self.codebooks()
        return self._normalise(torch.stack([books[level, codes[:, level]] for level in range(len(books))]).sum(dim=0))

    @torch.no_grad()
    def start(self) -> None:
        """Set the codebooks by residual k-means of the most recent batches, which must hold at least K vectors."""
        residual = vectors = torch.cat([*self._recent])
        self.maps.copy_(torch.eye(vectors.shape[1], device=vectors.device).expand_as(self.maps))
        for level in range(len(self.entries)):
            self.entries[level] = k_means(residual, self.config.size)
            distance = squared_distances(residual, self.entries[level])
            residual = residual - self.entries[level][distance.argmin(dim=1)]
            if self.config.mode == "gumbel":  # scaled so that the two nearest entries differ by about 1 in the softmax
                gap = distance.topk(2, dim=1, largest=False).values.diff(dim=1).median()
                self.sharpness[level] = -gap.clamp(min=1e-6).log()
        self.use.fill_(1 / self.config.size)
        self.started.fill_(True)

    def step(self, share: float) -> None:
        """Advance the schedule; called before each step.

        Set the temperature, start the quantiser after the warm-up, and revive dead entries every 50 steps.

        Args:
            share: the share of the training schedule that is over, in [0, 1)
        """
        config = self.config
        after_warm_up = (share - config.warm_up) / (1 - config.warm_up)
        ratio = config.final_temperature / config.initial_temperature
        self.temperature = config.initial_temperature * ratio ** max(0.0, after_warm_up)
        self._steps += 1
        if after_warm_up >= 0 and self._recent and not self.started:
            self.start()
        elif self.started and self._steps % _REVIVE_EVERY == 0:
            self.revive()

    @torch.no_grad()
    def revive(self) -> int:
        """Move dead entries to the residuals of random vectors of the last batch, and return how many were moved."""
        residual, revived = self._recent[-1], 0
        for level, (book, use) in enumerate(zip(self.codebooks(), self.use, strict=True)):
            dead = (use < _DEAD_FRACTION / self.config.size).nonzero().squeeze(1)[: len(residual)]
            if len(dead):
                taken = residual[torch.randperm(len(residual), device=residual.device)[: len(dead)]]
                unmapped = torch.linalg.lstsq(self.maps[level].T, taken.T).solution.T if self.config.simvq else taken
                self.entries[level, dead] = unmapped
                use[dead] = 1 / self.config.size
                revived += len(dead)
            residual = residual - book[squared_distances(residual, book).argmin(dim=1)]
        return revived

    @torch.no_grad()
    def finalize_codebooks(self, vectors: Tensor) -> None:
        """After training, move each level's entries to the means of the item residuals that they represent.

        Training sees vectors with dropout, and some entries of the deeper levels are nearest to such vectors alone.
        Without this step, no item would use these entries.

        Args:
            vectors: (N, D) unquantised vectors of all items
        """
        if not self.started:
            return
        residual = vectors
        for level, book in enumerate(self.codebooks()):
            self.entries[level] = lloyd(residual, book, _FINAL_ROUNDS)
            nearest = squared_distances(residual, self.entries[level]).argmin(dim=1)
            residual = residual - self.entries[level][nearest]
        self.maps.copy_(torch.eye(vectors.shape[1], device=vectors.device).expand_as(self.maps))

    @torch.no_grad()
    def _count_use(self, level: int, codes: Tensor) -> None:
        share = torch.bincount(codes, minlength=self.config.size) / len(codes)
        self.use[level].mul_(_USE_DECAY).add_(share, alpha=1 - _USE_DECAY)
