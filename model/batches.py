"""Training batches: shuffled pairs with random negatives, the network's inputs for all these items, and the loss.

The network reads two inputs per item: its own features, and the weighted average of its in-neighbours' features. While
the feature table learns, features and weighted sums are computed for the rows of each batch; when the table is fixed,
they are computed once for all items.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.config import ModelConfig
from model.embed import row_features
from model.encoder_input import EncoderInput, neighbour_average, propagate_sums
from model.loss import SoftmaxOptions, expected_counts, sampled_softmax
from model.network import LightSAGE
from model.propagation import Neighbourhood
from model.ragged import ragged_entries

ItemInputs = Callable[[Tensor], tuple[Tensor, Tensor]]
"""(B,) int64 items → (B, D) features of their training rows, and (B, D) weighted sums of in-neighbours' features."""


class Batches:
    """Shuffled training pairs with random negatives, and the loss of each batch.

    Args:
        pairs: (P, 2) int64 item rows (query, target)
        size: pairs per batch, at most P
        num_items: N
        config: the loss, the seed and the Matryoshka prefixes
        neighbours: the kept edges; a pair's own edge is subtracted from the inputs of the pair's items
        device: where batches are computed; None = the CPU
    """

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
        self._loss, self._prefixes = config.loss, config.matryoshka
        self._rng = np.random.default_rng(config.train.seed)
        share = np.bincount(pairs[:, 1], minlength=num_items) / len(pairs)
        self._target_share = torch.from_numpy(share.astype(np.float32)).to(device)
        # Weight of each pair's own edge in both directions, to be subtracted from the sums of its two items.
        self._forward = neighbours.edge_weights(pairs[:, 1], pairs[:, 0])
        self._backward = neighbours.edge_weights(pairs[:, 0], pairs[:, 1])
        self._order = self._rng.permutation(len(pairs))
        self._position = 0

    def _next_pairs(self) -> NDArray[np.int64]:
        """Return (B,) row numbers of `pairs`; a new order is drawn when too few pairs are left for a batch."""
        if self._position + self._size > len(self._order):
            self._order, self._position = self._rng.permutation(len(self._pairs)), 0
        self._position += self._size
        return self._order[self._position - self._size : self._position]

    def loss(self, network: LightSAGE, item_inputs: ItemInputs, total_weight: Tensor) -> Tensor:
        """Draw the next batch and return its loss, a scalar.

        Args:
            network: the network that is trained
            item_inputs: returns the inputs of items, see `ItemInputs`
            total_weight: (N,) float32 sum of the weights of each item's in-neighbours
        """
        chosen = self._next_pairs()
        b = len(chosen)
        queries, targets = self._pairs[chosen].T
        random = self._rng.integers(0, self._num_items, self._loss.random_negatives)
        items = torch.from_numpy(np.concatenate([queries, targets, random])).to(self._device)
        own, sums = item_inputs(items)
        # A pair must not read the edge that it trains. The average without that edge is (Σ − w·x) / (W − w).
        to_query = torch.from_numpy(self._backward[chosen]).to(self._device)
        to_target = torch.from_numpy(self._forward[chosen]).to(self._device)
        own_edge = torch.cat([to_query[:, None] * own[b : 2 * b], to_target[:, None] * own[:b]])
        sums = torch.cat([sums[: 2 * b] - own_edge, sums[2 * b :]])
        total = total_weight[items]
        total = torch.cat([total[: 2 * b] - torch.cat([to_query, to_target]), total[2 * b :]])
        average = neighbour_average(sums, total)
        counts = expected_counts(self._target_share, items[b:], b, len(random))
        candidate, penalty = network(own[b:], average[b:], "item"), own.new_zeros(())
        if network.quantizer is not None:
            candidate, penalty = network.quantizer(candidate)
        if network.selector is not None:
            penalty = penalty + network.selector.overlap()
        query = network(own[:b], average[:b], "query")
        options = SoftmaxOptions(self._loss.temperature, self._loss.logq, network.members, self._prefixes)
        return penalty + sampled_softmax(query, candidate, items[:b], items[b:], counts, options)


def trainable_inputs(network: LightSAGE, encoder: EncoderInput) -> ItemInputs:
    """Return a function that computes inputs with gradients; it computes each distinct row of a batch only once.

    Args:
        network: holds the trainable feature table
        encoder: rows and neighbours of every item
    """

    def item_inputs(items: Tensor) -> tuple[Tensor, Tensor]:
        edges, edge_offsets = ragged_entries(encoder.indptr, items)
        own_rows, neighbour_rows = encoder.train_row[items], encoder.neighbour[edges]
        local = torch.zeros(encoder.num_rows, dtype=torch.int64, device=items.device)
        local[own_rows] = 1
        local[neighbour_rows] = 1
        rows = local.nonzero().squeeze(1)
        local[rows] = torch.arange(len(rows), device=items.device)
        entries, offsets = ragged_entries(encoder.offsets, rows)
        table = network.features(encoder.columns[entries], offsets, encoder.values[entries], encoder.dense[rows])
        sums = torch.nn.functional.embedding_bag(
            local[neighbour_rows], table, edge_offsets, mode="sum", per_sample_weights=encoder.weight[edges]
        )
        return table[local[own_rows]], sums

    return item_inputs


def precomputed_inputs(network: LightSAGE, encoder: EncoderInput) -> ItemInputs:
    """Compute inputs for all items, without gradients, and return a function that looks them up.

    Args:
        network: holds the fixed feature table
        encoder: rows and neighbours of every item
    """
    with torch.no_grad():
        table = row_features(network, encoder)
        own, sums = table[encoder.train_row], propagate_sums(encoder, table)
    return lambda items: (own[items], sums[items])
