"""What the network reads for every item: rows of features (items and group means) and the neighbours to average over.

Here the long-tail rule for training lives: a tail item's row is its group's mean wherever the graph reads it; a cold
item keeps its own row and takes the group's mean for the average of neighbours that it does not have.
"""

from dataclasses import dataclass, fields

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from model.features import FeatureMatrix
from model.graph import ItemGraph
from model.propagation import Neighbourhood, propagate
from model.tail import TailGroups


@dataclass(frozen=True)
class EncoderInput:
    """Features of R = N items + G groups, and for each of N items its row and its neighbours' rows.

    Shapes:
        columns, offsets, values: the sparse features as bags: (nnz,) int64, (R + 1,) int64, (nnz,) float32
        dense: (R, F) float32
        train_row: (N,) int64, the group's row for tail items
        indptr (N + 1,) int64, neighbour (E,) int64 rows in [0, R), weight (E,) float32, total (N,) float32
    """

    columns: Tensor
    offsets: Tensor
    values: Tensor
    dense: Tensor
    train_row: Tensor
    indptr: Tensor
    neighbour: Tensor
    weight: Tensor
    total: Tensor

    def to(self, device: torch.device) -> "EncoderInput":
        """The same on a device."""
        return EncoderInput(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.train_row)

    @property
    def num_rows(self) -> int:
        """R."""
        return len(self.offsets) - 1


def encoder_input(
    graph: ItemGraph, features: FeatureMatrix, neighbours: Neighbourhood, groups: TailGroups
) -> EncoderInput:
    """Append the group means to the items' features, and point tail and cold items to them."""
    n = graph.num_items
    means = groups.mean_matrix(n)
    sparse = sp.vstack([features.sparse, means @ features.sparse], format="csr")
    dense = np.vstack([features.dense, np.asarray(means @ features.dense, np.float32)])
    group_row = np.full(n, -1, np.int64)
    group_row[groups.rows] = n + groups.group
    cold = graph.is_cold & (group_row >= 0)
    train_row = np.where((group_row >= 0) & ~cold, group_row, np.arange(n))
    # A cold item has no in-neighbour: its list becomes its group's row.
    degree = np.diff(neighbours.indptr)
    lonely = cold & (degree == 0)
    lengths = np.where(lonely, 1, degree)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    neighbour = np.empty(indptr[-1], np.int64)
    weight = np.ones(indptr[-1], np.float32)
    is_edge = np.repeat(~lonely, lengths)
    neighbour[is_edge] = train_row[neighbours.neighbour]
    weight[is_edge] = neighbours.weight
    neighbour[~is_edge] = group_row[lonely]
    return EncoderInput(
        columns=torch.from_numpy(sparse.indices.astype(np.int64)),
        offsets=torch.from_numpy(sparse.indptr.astype(np.int64)),
        values=torch.from_numpy(sparse.data.astype(np.float32)),
        dense=torch.from_numpy(dense),
        train_row=torch.from_numpy(train_row),
        indptr=torch.from_numpy(indptr.astype(np.int64)),
        neighbour=torch.from_numpy(neighbour),
        weight=torch.from_numpy(weight),
        total=torch.from_numpy(np.where(lonely, np.float32(1), neighbours.total)),
    )


def ragged(indptr: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Positions of the entries of some CSR rows, one after another, and where each row starts among them.

    Args:
        indptr: (R + 1,) int64; rows: (B,) int64
    Returns:
        positions: (nnz of the rows,) int64; offsets: (B,) int64
    """
    start = indptr[rows]
    lengths = indptr[rows + 1] - start
    offsets = lengths.cumsum(0) - lengths
    positions = torch.arange(int(lengths.sum()), device=rows.device) + torch.repeat_interleave(start - offsets, lengths)
    return positions, offsets


def neighbour_average(sums: Tensor, total: Tensor) -> Tensor:
    """Sums over weights, zero where (almost) no weight is left, as after subtracting the only edge."""
    return torch.where(total[:, None] > 1e-4, sums / total.clamp(min=1e-4)[:, None], 0.0)


def propagate_sums(encoder: EncoderInput, table: Tensor) -> Tensor:
    """(N, D) weighted sums over the neighbours of the whole catalogue from (R, D) row features."""
    return propagate(encoder.indptr, encoder.neighbour, encoder.weight, table)


def propagate_all(encoder: EncoderInput, table: Tensor) -> Tensor:
    """(N, D) neighbour averages of the whole catalogue from (R, D) row features."""
    return neighbour_average(propagate_sums(encoder, table), encoder.total)
