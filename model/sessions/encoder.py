"""The session encoder: turns the last items of a session into one query vector in the space of the index.

It is a small pre-norm transformer over the items' input vectors. Each layer attends to all outputs of the layer below,
but may attend *from* only a few positions (STRec, Li et al., RecSys 2023): the last item, and the items whose attention
is most selective. A layer that attends from all positions is plain self-attention. By default, the first layer attends
from all positions and the second from the last one only.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import SessionConfig

_MASKED = -1e9
_INITIAL_CORRECTION = 0.1  # length of the learned correction to the mean, before training


class SessionEncoder(nn.Module):
    """Encodes sessions of up to L items; the caller looks up the items' input vectors.

    The query is the weighted mean of the session's items plus a learned correction. `share` mixes this query with
    the weighted mean from which training started: 1 = only the trained encoder, 0 = only the mean.

    Args:
        dim: D, dimensions of the vectors
        config: L, the layers and their heads; `positions` says from how many positions each layer attends, 0 = all
        recency_weight: the weight of an item relative to the next item, in the mean that training starts from
    """

    start: Tensor
    share: Tensor

    def __init__(self, dim: int, config: SessionConfig, recency_weight: float = 0.5) -> None:
        super().__init__()
        self.length = config.length
        self.position = nn.Parameter(torch.randn(config.length, dim) / math.sqrt(dim))
        # Logarithm of each item's weight in the mean.
        self.recency = nn.Parameter(math.log(recency_weight) * torch.arange(config.length - 1.0, -1, -1))
        self.drop = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(Layer(dim, config.heads, k, config.dropout) for k in config.positions)
        self.norm = nn.LayerNorm(dim)
        nn.init.constant_(self.norm.weight, _INITIAL_CORRECTION)
        self.register_buffer("start", self.recency.detach().clone())
        self.register_buffer("share", torch.ones(()))

    def forward(self, vectors: Tensor, present: Tensor) -> Tensor:
        """Return one query vector per session, (B, D), L2-normalised.

        Args:
            vectors: (B, L', D) input vectors, most recent last, L' at most L, padded in front
            present: (B, L') bool, False for padding; the last item of each row must be present
        """
        start, mean = (_weighted_mean(vectors, present, recency) for recency in (self.start, self.recency))
        states = self.drop(vectors + self.position[self.length - vectors.shape[1] :])
        for layer in self.layers:
            states, present = layer(states, present)
        learned = F.normalize(mean + self.norm(states[:, -1]) * self.scale, dim=1)
        return F.normalize(torch.lerp(start, learned, self.share), dim=1)

    @property
    def scale(self) -> float:
        """The factor 1/√D, which makes the correction about as long as a weight of `norm`; the mean has length 1."""
        return 1 / math.sqrt(len(self.norm.weight))


def _weighted_mean(vectors: Tensor, present: Tensor, recency: Tensor) -> Tensor:
    weights = torch.exp(recency[len(recency) - vectors.shape[1] :]) * present
    return F.normalize((vectors * weights[:, :, None]).sum(dim=1), dim=1)


class Layer(nn.Module):
    """Attention from some of the positions, and a feed-forward network on these positions alone.

    Args:
        dim: D
        heads: attention heads, a divisor of D
        positions: K, the number of positions to attend from; 0 = all
        dropout: share of activations dropped in training
    """

    def __init__(self, dim: int, heads: int, positions: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.positions = heads, positions
        self.norm_before, self.norm_after = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query, self.key_value, self.out = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        self.widen, self.narrow = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.drop = nn.Dropout(dropout)

    def forward(self, states: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, K, D) states and (B, K) presence of the positions that were attended from, in their order.

        Args:
            states: (B, L', D) outputs of the layer below
            present: (B, L') bool, False for padding
        """
        keys_present, normed = present, self.norm_before(states)
        key, value = self.key_value(normed).chunk(2, dim=2)
        if 0 < self.positions < states.shape[1]:
            query, states, present = self._select(normed, key, states, present)
        else:
            query = self.query(normed)
        states = states + self.drop(self.out(self._attend(query, key, value, keys_present)))
        return states + self.drop(self.narrow(F.gelu(self.widen(self.norm_after(states))))), present

    def _select(self, normed: Tensor, key: Tensor, states: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, states and presence of the K positions to attend from."""
        if self.positions == 1:
            return self.query(normed[:, -1:]), states[:, -1:], present[:, -1:]
        query = self.query(normed)
        positions = most_selective_positions(query.detach(), key.detach(), present, self.positions)
        index = positions[:, :, None].expand(-1, -1, query.shape[2])
        return query.gather(1, index), states.gather(1, index), present.gather(1, positions)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, present: Tensor) -> Tensor:
        split = (key.shape[0], -1, self.heads, key.shape[2] // self.heads)
        q, k, v = (part.reshape(split).transpose(1, 2) for part in (query, key, value))
        mask = torch.where(present, 0.0, _MASKED)[:, None, None, :]
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.to(q.dtype))
        return attended.transpose(1, 2).reshape(query.shape)


def most_selective_positions(query: Tensor, key: Tensor, present: Tensor, count: int) -> Tensor:
    """Return (B, K) int64 positions, ascending: the last one, and those whose attention is furthest from uniform.

    The measure is the largest logit minus the mean logit (Zhou et al., Informer, AAAI 2021). Unlike Informer, this
    function samples nothing, so that the same session always has the same vector.

    Args:
        query: (B, L', D)
        key: (B, L', D)
        present: (B, L') bool, False for padding
        count: K, below L'
    """
    logits = query @ key.transpose(1, 2) / math.sqrt(key.shape[2])
    hidden = ~present[:, None, :]
    largest = logits.masked_fill(hidden, -torch.inf).amax(dim=2)
    mean = logits.masked_fill(hidden, 0.0).sum(dim=2) / present.sum(dim=1, keepdim=True)
    measure = (largest - mean).masked_fill(~present, _MASKED)
    last = torch.full_like(measure[:, :1], torch.inf)
    measure = torch.cat([measure[:, :-1], last], dim=1)
    return measure.topk(count, dim=1).indices.sort(dim=1).values
