"""One batch of training: pairs with random negatives, what their items read, and their loss.

What an item reads are two slots: its own features, and the weighted sum of its in-neighbours'. Where the feature table
learns they are looked up for the rows of each batch; where it is fixed they are computed once.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.config import ModelConfig
from model.embed import row_features
from model.encoder_input import EncoderInput, neighbour_average, propagate_sums, ragged
from model.loss import expected_counts, sampled_softmax
from model.network import LightSAGE
from model.propagation import Neighbourhood

# (B,) int64 items → own (B, D) features of their training rows, sums (B, D) not yet divided by the total weight.
Slots = Callable[[Tensor], tuple[Tensor, Tensor]]


class Batches:
    """Shuffled training pairs with random negatives, and the loss of each batch."""

    def __init__(
        self,
        pairs: NDArray[np.int64],
        size: int,
        num_items: int,
        config: ModelConfig,
        neighbours: Neighbourhood,
        device: torch.device | None = None,
    ) -> None:
        self._device = device
        self._pairs, self._size, self._num_items = pairs, size, num_items
        self._loss, self._neighbours, self._prefixes = config.loss, neighbours, config.matryoshka
        self._rng = np.random.default_rng(config.train.seed)
        share = np.bincount(pairs[:, 1], minlength=num_items) / len(pairs)
        self._target_share = torch.from_numpy(share.astype(np.float32)).to(device)
        # Weight of each pair's own edge in both directions, to be taken out of its averages.
        self._forward = neighbours.edge_weights(pairs[:, 1], pairs[:, 0])
        self._backward = neighbours.edge_weights(pairs[:, 0], pairs[:, 1])
        self._order = self._rng.permutation(len(pairs))
        self._at = 0

    def _next(self) -> NDArray[np.int64]:
        if self._at + self._size > len(self._order):
            self._order, self._at = self._rng.permutation(len(self._pairs)), 0
        self._at += self._size
        return self._order[self._at - self._size : self._at]

    def loss(self, network: LightSAGE, slots: Slots, total_weight: Tensor) -> Tensor:
        """The next batch's. `total_weight`: (N,) float32 of each item's in-neighbours."""
        chosen = self._next()
        b = len(chosen)
        queries, targets = self._pairs[chosen].T
        random = self._rng.integers(0, self._num_items, self._loss.random_negatives)
        items = torch.from_numpy(np.concatenate([queries, targets, random])).to(self._device)
        own, sums = slots(items)
        # The target edge must not be read by the pair that it trains: (Σ − w·x) / (W − w).
        to_query = torch.from_numpy(self._backward[chosen]).to(self._device)
        to_target = torch.from_numpy(self._forward[chosen]).to(self._device)
        read = torch.cat([to_query[:, None] * own[b : 2 * b], to_target[:, None] * own[:b]])
        sums = torch.cat([sums[: 2 * b] - read, sums[2 * b :]])
        total = total_weight[items]
        total = torch.cat([total[: 2 * b] - torch.cat([to_query, to_target]), total[2 * b :]])
        average = neighbour_average(sums, total)
        counts = expected_counts(self._target_share, items[b:], b, len(random))
        candidate, penalty = network(own[b:], average[b:], "item"), own.new_zeros(())
        if network.quantizer is not None:
            candidate, penalty = network.quantizer(candidate)
        if network.selector is not None:
            penalty = penalty + network.selector.overlap()
        return penalty + sampled_softmax(
            network(own[:b], average[:b], "query"),
            candidate,
            items[:b],
            items[b:],
            counts,
            self._loss.temperature,
            self._loss.logq,
            network.members,
            self._prefixes,
        )


def learned_slots(network: LightSAGE, encoder: EncoderInput) -> Slots:
    """Slots with gradients, by features of the distinct rows that a batch needs."""

    def slots(items: Tensor) -> tuple[Tensor, Tensor]:
        edges, edge_offsets = ragged(encoder.indptr, items)
        own_rows, neighbour_rows = encoder.train_row[items], encoder.neighbour[edges]
        local = torch.zeros(encoder.num_rows, dtype=torch.int64, device=items.device)
        local[own_rows] = 1
        local[neighbour_rows] = 1
        rows = local.nonzero().squeeze(1)
        local[rows] = torch.arange(len(rows), device=items.device)
        entries, offsets = ragged(encoder.offsets, rows)
        table = network.features(encoder.columns[entries], offsets, encoder.values[entries], encoder.dense[rows])
        sums = torch.nn.functional.embedding_bag(
            local[neighbour_rows], table, edge_offsets, mode="sum", per_sample_weights=encoder.weight[edges]
        )
        return table[local[own_rows]], sums

    return slots


def computed_slots(network: LightSAGE, encoder: EncoderInput) -> Slots:
    """Slots without gradients, computed for all items at once."""
    with torch.no_grad():
        table = row_features(network, encoder)
        own, sums = table[encoder.train_row], propagate_sums(encoder, table)
    return lambda items: (own[items], sums[items])
