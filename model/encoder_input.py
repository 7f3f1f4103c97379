"""The network's input for every item: rows of features (items and group means), and the neighbours to average over.

The long-tail rule for training is applied here. A tail item with events is replaced by its group's mean: in its own
input, and where it is a neighbour of another item. A cold item keeps its own features; if it has no neighbours, its
group's mean is used as its neighbour average.
"""

from dataclasses import dataclass, fields

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from model.features import FeatureMatrix
from model.graph import ItemGraph
from model.propagation import Neighbourhood, propagate
from model.ragged import offsets_from_lengths
from model.tail import TailGroups


@dataclass(frozen=True)
class EncoderInput:
    """Features of R = N items + G groups; for each item, its own row and the rows of its neighbours.

    Shapes:
        columns, values: (nnz,) int64 and float32, the sparse features, row after row
        offsets: (R + 1,) int64 offsets of the rows in `columns` and `values`
        dense: (R, F) float32
        train_row: (N,) int64 row that each item reads: its own, or its group's if it is a tail item with events
        indptr: (N + 1,) int64 offsets of the items' neighbours
        neighbour: (E,) int64 rows in [0, R)
        weight: (E,) float32
        total: (N,) float32 sum of each item's weights
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
        """Return the same input on a device."""
        return EncoderInput(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    @property
    def num_items(self) -> int:
        """N, the number of items."""
        return len(self.train_row)

    @property
    def num_rows(self) -> int:
        """R, the number of rows of features."""
        return len(self.offsets) - 1


def encoder_input(
    graph: ItemGraph, features: FeatureMatrix, neighbours: Neighbourhood, groups: TailGroups
) -> EncoderInput:
    """Append the group means to the items' features, for tail items and for cold items without neighbours.

    Args:
        graph: the item graph
        features: the features of the N items
        neighbours: the kept edges
        groups: the groups of the tail items, see `model.tail`
    """
    n = graph.num_items
    means = groups.mean_matrix(n)
    sparse = sp.vstack([features.sparse, means @ features.sparse], format="csr")
    dense = np.vstack([features.dense, np.asarray(means @ features.dense, np.float32)])
    group_row = np.full(n, -1, np.int64)
    group_row[groups.rows] = n + groups.group
    cold = graph.is_cold & (group_row >= 0)
    train_row = np.where((group_row >= 0) & ~cold, group_row, np.arange(n))
    # If a cold item has no in-neighbour, its group's row becomes its only neighbour.
    degree = np.diff(neighbours.indptr)
    reads_group = cold & (degree == 0)
    lengths = np.where(reads_group, 1, degree)
    indptr = offsets_from_lengths(lengths)
    neighbour = np.empty(indptr[-1], np.int64)
    weight = np.ones(indptr[-1], np.float32)
    is_edge = np.repeat(~reads_group, lengths)
    neighbour[is_edge] = train_row[neighbours.neighbour]
    weight[is_edge] = neighbours.weight
    neighbour[~is_edge] = group_row[reads_group]
    return EncoderInput(
        columns=torch.from_numpy(sparse.indices.astype(np.int64)),
        offsets=torch.from_numpy(sparse.indptr.astype(np.int64)),
        values=torch.from_numpy(sparse.data.astype(np.float32)),
        dense=torch.from_numpy(dense),
        train_row=torch.from_numpy(train_row),
        indptr=torch.from_numpy(indptr.astype(np.int64)),
        neighbour=torch.from_numpy(neighbour),
        weight=torch.from_numpy(weight),
        total=torch.from_numpy(np.where(reads_group, np.float32(1), neighbours.total)),
    )


def neighbour_average(sums: Tensor, total: Tensor) -> Tensor:
    """Return (B, D) averages; zero where (almost) no weight is left, for example after the only edge was subtracted.

    Args:
        sums: (B, D) weighted sums
        total: (B,) sums of the weights
    """
    return torch.where(total[:, None] > 1e-4, sums / total.clamp(min=1e-4)[:, None], 0.0)


def propagate_sums(encoder: EncoderInput, table: Tensor) -> Tensor:
    """Return (N, D) weighted sums over the neighbours of all items.

    Args:
        encoder: rows and neighbours of every item
        table: (R, D) features of the rows
    """
    return propagate(encoder.indptr, encoder.neighbour, encoder.weight, table)


def propagate_all(encoder: EncoderInput, table: Tensor) -> Tensor:
    """Return (N, D) neighbour averages of all items.

    Args:
        encoder: rows and neighbours of every item
        table: (R, D) features of the rows
    """
    return neighbour_average(propagate_sums(encoder, table), encoder.total)
