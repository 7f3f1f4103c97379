"""The LightSAGE network: a trainable feature table, and one small network over an item and its neighbours' average.

After "LightSAGE: Graph Neural Networks for Large Scale Item Retrieval in Shopee's Advertisement Recommendation" (RecSys
2023, arXiv 2310.19394).
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import ModelConfig
from model.feature_selection import GroupSelector
from model.quantizer import ResidualQuantizer

Role = Literal["query", "item"]


class LightSAGE(nn.Module):
    """Embeds items from their own features and the average of their in-neighbours' features.

        s_i = Σ_f x_if E_f + d_i C
        z_i = normalise(W_role [ s_i ‖ Σ_j w_ji s_j / Σ_j w_ji ] + b_role),  j over the in-neighbours of i

    Both roles start near the plain sum of an item's features and its neighbours' average. From a random start, the two
    projections would fit the training pairs by turning away from each other, and items with similar features would no
    longer be near each other.

    Args:
        table_rows: V, rows of the trainable table (ids first, then feature levels)
        dense_dim: F, size of the fixed content block; 0 without one
        dim: D, size of features and embeddings alike, a multiple of M
        dropout: share of the network's inputs dropped in training; on the CPU, rounded to the nearest 1/256
        members: M networks side by side, each with heads of its own on D / M of the dimensions. An embedding
            concatenates the members' vectors, each of length 1/√M, so that the inner product of two embeddings is the
            mean of the members' cosines.
        quantizer: a bottleneck of the item vectors; None = none
    Shapes:
        features: (R, D); forward: (B, D), (B, D) → (B, D), L2-normalised
    """

    def __init__(
        self,
        table_rows: int,
        dense_dim: int,
        dim: int,
        dropout: float = 0.0,
        members: int = 1,
        quantizer: ResidualQuantizer | None = None,
    ) -> None:
        super().__init__()
        self.members = members
        self.table = nn.Parameter(torch.randn(table_rows, dim) * 0.1)
        self.content = nn.Parameter(torch.randn(dense_dim, dim) * 0.1)
        self.dropout = dropout
        self.heads = nn.ModuleDict({role: Head(dim // members, members) for role in ("query", "item")})
        self.quantizer = quantizer
        self.selector: GroupSelector | None = None

    @classmethod
    def from_config(cls, config: ModelConfig, table_rows: int, dense_dim: int) -> "LightSAGE":
        """Return a new network as configured, with a quantiser if semantic IDs are configured."""
        quantizer = None
        if config.semantic_ids.levels:
            quantizer = ResidualQuantizer(config.dim, config.semantic_ids, config.members)
        return cls(table_rows, dense_dim, config.dim, config.dropout, config.members, quantizer)

    def fix(self, table: Tensor, content: Tensor) -> None:
        """Set the feature table (V, D) and the content's projection (F, D) for good; neither learns any more."""
        for weight, value in ((self.table, table), (self.content, content)):
            weight.requires_grad_(False).copy_(value)

    def features(self, columns: Tensor, offsets: Tensor, values: Tensor, dense: Tensor) -> Tensor:
        """Return (R, D) features s: weighted sums of table rows, given as bags, plus the projected fixed content.

        Args:
            columns: (nnz,) int64 rows of the table
            offsets: (R,) int64 start of each bag in `columns`
            values: (nnz,) float32 weights
            dense: (R, F) float32 fixed content
        """
        if self.selector is not None:
            gate = self.selector()
            values, dense = values * gate[columns], dense * gate[len(self.table) :]
        out = F.embedding_bag(columns, self.table, offsets, mode="sum", per_sample_weights=values)
        return out + dense @ self.content if dense.shape[1] else out

    def forward(self, own: Tensor, average: Tensor, role: Role) -> Tensor:
        """Return (B, D) embeddings of one role, from (B, D) own features and (B, D) neighbour averages."""
        split = (len(own), self.members, -1)
        both = torch.cat([own.view(split), average.view(split)], dim=2)
        if self.training and self.dropout:
            both = both.mul_(_dropout_mask(both.shape, self.dropout, both.device))
        out = F.normalize(self.heads[role](both), dim=2)
        return out.reshape(len(own), -1) / math.sqrt(self.members)


def _dropout_mask(shape: torch.Size, dropout: float, device: torch.device) -> Tensor:
    """Return a mask: 0 for dropped inputs, 1 / (share kept) for others. On the CPU, one draw serves eight inputs."""
    if device.type != "cpu":
        return (torch.rand(shape, device=device) >= dropout).to(torch.float32).div_(1 - dropout)
    limit = round(256 * dropout)
    draws = torch.empty(-(-shape.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
    survives = draws.view(torch.uint8)[: shape.numel()].view(shape) >= limit
    return survives.to(torch.float32).mul_(256 / (256 - limit))


class Head(nn.Module):
    """The linear maps of one role, one for each of M members.

    They start near the sum of an item's own features and its neighbour average.

    Args:
        width: d, dimensions of a member
        members: M
    """

    def __init__(self, width: int, members: int) -> None:
        super().__init__()
        start = torch.cat([torch.eye(width), torch.eye(width)])
        self.weight = nn.Parameter(start + 0.02 * torch.randn(members, 2 * width, width))
        # Not zero, because an item without any feature needs a direction too.
        self.bias = nn.Parameter(1e-3 * torch.randn(members, width))

    def forward(self, both: Tensor) -> Tensor:
        """Map (B, M, 2d) to (B, M, d)."""
        return torch.einsum("bmi,mio->bmo", both, self.weight) + self.bias
