"""Linear weighted propagation: an item reads the weighted average of its in-neighbours' features.

LightSAGE is light because there is no transform and no activation between the hop and the network. When items are
embedded, the averages of the whole catalogue are computed at once. When the feature table is trained, the same averages
are computed batch by batch.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric import EdgeIndex

from model.config import PropagationConfig
from model.graph import EDGE_TYPES, ItemGraph


@dataclass(frozen=True)
class Neighbourhood:
    """The kept in-neighbours of every item, as CSR by destination.

    Shapes:
        indptr: (N + 1,) int64
        neighbour: (E,) int64 item rows, ascending within an item
        weight: (E,) float32
        total: (N,) float32, the sum of each item's weights
    """

    indptr: NDArray[np.int64]
    neighbour: NDArray[np.int64]
    weight: NDArray[np.float32]
    total: NDArray[np.float32]

    @property
    def num_items(self) -> int:
        """N, the number of items."""
        return len(self.total)

    def edge_weights(self, dst: NDArray[np.integer], src: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return (B,) float32 weights of the edges src → dst, 0 for edges that were not kept.

        Args:
            dst: (B,) item rows
            src: (B,) item rows
        """
        if len(self.neighbour) == 0:
            return np.zeros(len(dst), np.float32)
        owner = np.repeat(np.arange(self.num_items, dtype=np.int64), np.diff(self.indptr))
        keys = owner * self.num_items + self.neighbour  # ascending, because neighbours ascend within an owner
        queries = dst.astype(np.int64) * self.num_items + src
        position = np.minimum(np.searchsorted(keys, queries), len(keys) - 1)
        return np.where(keys[position] == queries, self.weight[position], np.float32(0))


def in_neighbours(graph: ItemGraph, config: PropagationConfig) -> Neighbourhood:
    """Return the `top_k` heaviest in-neighbours of every item over all edge types.

    The weights of each edge type into an item are scaled to sum to the type's configured share, so that no type drowns
    the others. An edge of several types has the sum of their weights. If weights are equal, the neighbour with the
    smaller row number is kept.

    Args:
        graph: the item graph
        config: `top_k` and the share of each edge type
    """
    n = graph.num_items
    share = np.array([getattr(config, name) for name in EDGE_TYPES], np.float64)
    dst_and_type = graph.dst.astype(np.int64) * len(EDGE_TYPES) + graph.edge_type
    total = np.bincount(dst_and_type, graph.weight, minlength=n * len(EDGE_TYPES))
    scaled = share[graph.edge_type] * graph.weight / total[dst_and_type]
    keys, inverse = np.unique(graph.dst.astype(np.int64) * n + graph.src, return_inverse=True)
    weight = np.bincount(inverse, scaled, minlength=len(keys))
    dst, src = keys // n, keys % n
    positive = weight > 0
    dst, src, weight = dst[positive], src[positive], weight[positive]
    order = np.lexsort((src, -weight, dst))
    rank = np.arange(len(dst)) - np.searchsorted(dst, dst)[order]
    in_top_k = np.zeros(len(dst), np.bool_)
    in_top_k[order[rank < config.top_k]] = True
    dst, src, weight = dst[in_top_k], src[in_top_k], weight[in_top_k]
    return Neighbourhood(
        indptr=np.searchsorted(dst, np.arange(n + 1)).astype(np.int64),
        neighbour=src,
        weight=weight.astype(np.float32),
        total=np.bincount(dst, weight, minlength=n).astype(np.float32),
    )


def propagate(indptr: Tensor, neighbour: Tensor, weight: Tensor, table: Tensor) -> Tensor:
    """Return (N, D) float32 weighted sums over the in-neighbours of all items at once.

        y_i = Σ_j w_ji x_j,  j over the in-neighbours of i

    Args:
        indptr: (N + 1,) int64 offsets of the items' neighbours
        neighbour: (E,) int64 rows of `table`
        weight: (E,) float32
        table: (R, D) float32 features
    """
    n = len(indptr) - 1
    owner = torch.repeat_interleave(torch.arange(n, device=indptr.device), indptr[1:] - indptr[:-1])
    edges = EdgeIndex(torch.stack([owner, neighbour]), sparse_size=(n, len(table)), sort_order="row")
    with warnings.catch_warnings():
        # torch warns once per process that its CSR tensors are in beta; a test compares the result with a plain loop.
        warnings.filterwarnings("ignore", message="Sparse", category=UserWarning)
        out: Tensor = edges.matmul(table, weight)
    return out
