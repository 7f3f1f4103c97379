"""The session encoder: the last items of a session to one query vector in the space of the index.

A small pre-norm transformer over the items' input vectors. Each layer attends *from* a few positions only, to all that
the layer below gave (STRec, Li et al., RecSys 2023): the last item and those that attend most decidedly. A layer that
attends from all positions is plain self-attention; the top layer has the last position as its only query.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import SessionConfig

_MASKED = -1e9
_TURN = 0.1
"""How long the turn is at first."""


class SessionEncoder(nn.Module):
    """Sessions of up to L items as vectors of D dimensions; the gathering of input vectors is left to the caller.

    Args:
        dim: D
        config: its `positions` say from how many positions each layer attends, first layer first; 0 = from all
        recency_weight: what an item counts in the mean that is the start, of the one after it
    """

    start: Tensor
    share: Tensor

    def __init__(self, dim: int, config: SessionConfig, recency_weight: float = 0.5) -> None:
        super().__init__()
        self.length = config.length
        self.ago = nn.Parameter(torch.randn(config.length, dim) / math.sqrt(dim))
        # What each item counts in the mean, as a logarithm.
        self.recency = nn.Parameter(math.log(recency_weight) * torch.arange(config.length - 1.0, -1, -1))
        self.drop = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(Layer(dim, config.heads, k, config.dropout) for k in config.positions)
        self.norm = nn.LayerNorm(dim)
        nn.init.constant_(self.norm.weight, _TURN)
        # How much of what was learned is followed, the rest being the mean of the start.
        self.register_buffer("start", self.recency.detach().clone())
        self.register_buffer("share", torch.ones(()))

    def forward(self, vectors: Tensor, present: Tensor) -> Tensor:
        """One query vector a session.

        Args:
            vectors: (B, L', D) input vectors, most recent last, L' at most L; what is not present is padding, in front
            present: (B, L') bool; the last of each row is present
        Returns:
            (B, D), L2-normalised
        """
        start, mean = (_mean(vectors, present, recency) for recency in (self.start, self.recency))
        states = self.drop(vectors + self.ago[self.length - vectors.shape[1] :])
        for layer in self.layers:
            states, present = layer(states, present)
        # What the items ask for in the mean is the start; how they stand together turns it.
        learned = F.normalize(mean + self.norm(states[:, -1]) * self.scale, dim=1)
        return F.normalize(torch.lerp(start, learned, self.share), dim=1)

    @property
    def scale(self) -> float:
        """What makes the turn as long as its weights say, as the mean's length is 1."""
        return 1 / math.sqrt(len(self.norm.weight))


def _mean(vectors: Tensor, present: Tensor, recency: Tensor) -> Tensor:
    counts = torch.exp(recency[len(recency) - vectors.shape[1] :]) * present
    return F.normalize((vectors * counts[:, :, None]).sum(dim=1), dim=1)


class Layer(nn.Module):
    """Attention from `positions` of the rows it is given (0 = all), and a feed-forward network on those alone."""

    def __init__(self, dim: int, heads: int, positions: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.positions = heads, positions
        self.before, self.after = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query, self.both, self.out = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        self.wide, self.narrow = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.drop = nn.Dropout(dropout)

    def forward(self, states: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K, D) and (B, K) of the K positions that were attended from, in their order."""
        seen = self.before(states)
        key, value = self.both(seen).chunk(2, dim=2)
        if 0 < self.positions < states.shape[1]:
            query, states, present, seen = self._from_few(seen, key, states, present)
            mask = seen
        else:
            query, mask = self.query(seen), present
        attended = self._attend(query, key, value, mask)
        states = states + self.drop(self.out(attended))
        return states + self.drop(self.narrow(F.gelu(self.wide(self.after(states))))), present

    def _from_few(
        self, seen: Tensor, key: Tensor, states: Tensor, present: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(queries, states and presence of the chosen positions, presence of the keys)."""
        if self.positions == 1:
            chosen = seen[:, -1:]
            return self.query(chosen), states[:, -1:], present[:, -1:], present
        query = self.query(seen)
        place = decided(query.detach(), key.detach(), present, self.positions)
        wide = place[:, :, None].expand(-1, -1, query.shape[2])
        return query.gather(1, wide), states.gather(1, wide), present.gather(1, place), present

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, present: Tensor) -> Tensor:
        split = (key.shape[0], -1, self.heads, key.shape[2] // self.heads)
        q, k, v = (part.reshape(split).transpose(1, 2) for part in (query, key, value))
        hidden = torch.where(present, 0.0, _MASKED)[:, None, None, :]
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=hidden.to(q.dtype))
        return found.transpose(1, 2).reshape(query.shape)


def decided(query: Tensor, key: Tensor, present: Tensor, positions: int) -> Tensor:
    """(B, K) int64 positions, ascending: the last one, and those whose attention is furthest from even.

    How far: the largest logit over the mean one (Zhou et al., Informer, AAAI 2021). No chance is in it, so that the
    same session always gives the same vector.
    """
    logits = query @ key.transpose(1, 2) / math.sqrt(key.shape[2])
    hidden = ~present[:, None, :]
    largest = logits.masked_fill(hidden, -torch.inf).amax(dim=2)
    mean = logits.masked_fill(hidden, 0.0).sum(dim=2) / present.sum(dim=1, keepdim=True)
    measure = (largest - mean).masked_fill(~present, _MASKED)
    last = torch.full_like(measure[:, :1], torch.inf)
    measure = torch.cat([measure[:, :-1], last], dim=1)
    return measure.topk(positions, dim=1).indices.sort(dim=1).values
