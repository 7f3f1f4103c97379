"""Linear weighted propagation: the average of the features of the items from which an item can be reached.

No transform and no activation stands between the hop and the network, which is what makes LightSAGE light. At embedding
time the whole catalogue is propagated at once; in training each batch averages over the same neighbours.
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
    """The kept in-neighbours of every item as CSR by destination.

    Shapes:
        indptr: (N + 1,) int64; neighbour: (E,) int64 item rows, ascending within an item; weight: (E,) float32;
        total: (N,) float32, the sum of each item's weights
    """

    indptr: NDArray[np.int64]
    neighbour: NDArray[np.int64]
    weight: NDArray[np.float32]
    total: NDArray[np.float32]

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.total)

    def edge_weights(self, dst: NDArray[np.integer], src: NDArray[np.integer]) -> NDArray[np.float32]:
        """(B,) float32 weight of each edge src → dst, 0 where it was not kept."""
        if len(self.neighbour) == 0:
            return np.zeros(len(dst), np.float32)
        owner = np.repeat(np.arange(self.num_items, dtype=np.int64), np.diff(self.indptr))
        keys = owner * self.num_items + self.neighbour  # ascending, as both parts are
        wanted = dst.astype(np.int64) * self.num_items + src
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[at] == wanted, self.weight[at], np.float32(0))


def in_neighbours(graph: ItemGraph, config: PropagationConfig) -> Neighbourhood:
    """The `top_k` in-neighbours of every item over all edge types.

    Within an item each edge type's weights are scaled to sum to the type's configured share, so that none drowns the
    others; an edge of several types is the sum of its parts. Ties keep the smaller row.
    """
    n = graph.num_items
    share = np.array([getattr(config, name) for name in EDGE_TYPES], np.float64)
    slot = graph.dst.astype(np.int64) * len(EDGE_TYPES) + graph.edge_type
    mass = np.bincount(slot, graph.weight, minlength=n * len(EDGE_TYPES))
    scaled = share[graph.edge_type] * graph.weight / mass[slot]
    keys, inverse = np.unique(graph.dst.astype(np.int64) * n + graph.src, return_inverse=True)
    weight = np.bincount(inverse, scaled, minlength=len(keys))
    dst, src = keys // n, keys % n
    keep = weight > 0
    dst, src, weight = dst[keep], src[keep], weight[keep]
    order = np.lexsort((src, -weight, dst))
    rank = np.arange(len(dst)) - np.searchsorted(dst, dst)[order]
    keep = np.zeros(len(dst), np.bool_)
    keep[order[rank < config.top_k]] = True
    dst, src, weight = dst[keep], src[keep], weight[keep]
    return Neighbourhood(
        indptr=np.searchsorted(dst, np.arange(n + 1)).astype(np.int64),
        neighbour=src,
        weight=weight.astype(np.float32),
        total=np.bincount(dst, weight, minlength=n).astype(np.float32),
    )


def propagate(indptr: Tensor, neighbour: Tensor, weight: Tensor, table: Tensor) -> Tensor:
    """Weighted sums over in-neighbours for all items at once.

        y_i = Σ_j w_ji x_j,  j over the in-neighbours of i

    Args:
        indptr: (N + 1,) int64; neighbour: (E,) int64 rows of `table`; weight: (E,) float32
        table: (R, D) float32 features of the rows that neighbours name
    Shapes:
        output: (N, D) float32
    """
    n = len(indptr) - 1
    owner = torch.repeat_interleave(torch.arange(n, device=indptr.device), indptr[1:] - indptr[:-1])
    edges = EdgeIndex(torch.stack([owner, neighbour]), sparse_size=(n, len(table)), sort_order="row")
    with warnings.catch_warnings():
        # torch calls its CSR tensors "beta" once a process; the test compares them with a plain loop.
        warnings.filterwarnings("ignore", message="Sparse", category=UserWarning)
        out: Tensor = edges.matmul(table, weight)
    return out
