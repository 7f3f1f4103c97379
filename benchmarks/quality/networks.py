"""Other graph networks on the same graph, with the same features, loss and negatives as LightSAGE.

GraphSAGE (Hamilton et al. 2017, mean aggregator), LightGCN (He et al. 2020) and a PinSage-style network (Ying et al.
2018: importance pooling over random-walk visits). Training samples neighbours of distinct nodes, and leaves out the
edges of the pairs in the batch. When items are embedded, all neighbours are read.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from model.config import FeatureConfig, PropagationConfig
from model.features import fit_features
from model.graph import ItemGraph
from model.loss import SoftmaxOptions, expected_counts, sampled_softmax
from model.propagation import in_neighbours
from model.ragged import ragged_entries

Params = dict[str, Any]
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Graph:
    """Weighted in-neighbours by destination: indptr (N + 1,), neighbour (E,) int64, weight (E,) float32."""

    indptr: Tensor
    neighbour: Tensor
    weight: Tensor

    @property
    def num_items(self) -> int:
        """The number of items."""
        return len(self.indptr) - 1


@dataclass(frozen=True)
class Block:
    """One layer's edges: the first `size` of the source nodes are the destinations, in order.

    Shapes: offsets (size,) int64; source (e,) int64 positions among the source nodes; weight (e,) float32.
    """

    size: int
    offsets: Tensor
    source: Tensor
    weight: Tensor

    def sums(self, h: Tensor) -> Tensor:
        """(size, D) weighted sums over the in-neighbours."""
        return F.embedding_bag(self.source, h, self.offsets, mode="sum", per_sample_weights=self.weight)

    def means(self, h: Tensor) -> Tensor:
        """(size, D) weighted means, zero without neighbours."""
        total = F.embedding_bag(
            self.source, h.new_ones(len(h), 1), self.offsets, mode="sum", per_sample_weights=self.weight
        )
        return self.sums(h) / total.clamp(min=1e-6)


def sample_blocks(graph: Graph, seeds: Tensor, fanouts: list[int], without: Tensor) -> tuple[list[Block], Tensor]:
    """The blocks from the outermost layer to the seeds, and the nodes that the first block reads.

    Args:
        graph: all edges.
        seeds: (B,) int64, distinct items.
        fanouts: the number of sampled neighbours by layer, from the seeds outwards.
        without: ascending keys dst · N + src of edges that must not be read.
    """
    blocks, nodes = [], seeds
    position = torch.full((graph.num_items,), -1)
    for fanout in fanouts:
        degree = graph.indptr[nodes + 1] - graph.indptr[nodes]
        take = degree.clamp(max=fanout)
        owner = torch.repeat_interleave(torch.arange(len(nodes)), take)
        nth = torch.arange(len(owner)) - (take.cumsum(0) - take)[owner]
        drawn = (torch.rand(len(owner)) * degree[owner]).long()
        edge = graph.indptr[nodes[owner]] + torch.where(degree[owner] > fanout, drawn, nth)
        source, weight = graph.neighbour[edge], graph.weight[edge]
        keys = nodes[owner] * graph.num_items + source
        candidate = torch.searchsorted(without, keys).clamp(max=max(0, len(without) - 1))
        keep = without[candidate] != keys if len(without) else torch.ones(len(keys), dtype=torch.bool)
        owner, source, weight = owner[keep], source[keep], weight[keep]
        position[nodes] = torch.arange(len(nodes))
        new = torch.unique(source[position[source] < 0])
        position[new] = len(nodes) + torch.arange(len(new))
        counts = torch.bincount(owner, minlength=len(nodes))
        blocks.append(Block(len(nodes), counts.cumsum(0) - counts, position[source], weight))
        nodes = torch.cat([nodes, new])
    return blocks[::-1], nodes


def full_block(graph: Graph) -> Block:
    """A block with all items as destinations and all edges."""
    return Block(graph.num_items, graph.indptr[:-1], graph.neighbour, graph.weight)


class SAGE(nn.Module):
    """h ← normalise(ReLU(W [h ‖ mean of neighbours])); the last layer has no ReLU."""

    def __init__(self, dim: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(2 * dim, dim) for _ in range(layers))

    def forward(self, h: Tensor, blocks: list[Block], dropout: float) -> Tensor:
        for number, (layer, block) in enumerate(zip(self.layers, blocks, strict=True)):
            both = torch.cat([h[: block.size], block.means(h)], dim=1)
            h = layer(F.dropout(both, dropout, self.training))
            h = F.normalize(h if number == len(blocks) - 1 else torch.relu(h), dim=1)
        return h


class LightGCN(nn.Module):
    """The mean of the sums of all layers, without parameters; the edge weights contain the symmetric normalisation."""

    def __init__(self, dim: int, layers: int) -> None:
        super().__init__()

    def forward(self, h: Tensor, blocks: list[Block], dropout: float) -> Tensor:
        last = blocks[-1].size
        h = F.dropout(h, dropout, self.training)
        mean = h[:last]
        for block in blocks:
            h = block.sums(h)
            mean = mean + h[:last]
        return F.normalize(mean, dim=1)


class PinSage(nn.Module):
    """h ← normalise(ReLU(W [h ‖ importance-weighted mean of ReLU(Q h)])), then a two-layer perceptron."""

    def __init__(self, dim: int, layers: int) -> None:
        super().__init__()
        self.inner = nn.ModuleList(nn.Linear(dim, dim) for _ in range(layers))
        self.outer = nn.ModuleList(nn.Linear(2 * dim, dim) for _ in range(layers))
        self.top = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim, bias=False))

    def forward(self, h: Tensor, blocks: list[Block], dropout: float) -> Tensor:
        for inner, outer, block in zip(self.inner, self.outer, blocks, strict=True):
            pooled = block.means(torch.relu(inner(h)))
            both = F.dropout(torch.cat([h[: block.size], pooled], dim=1), dropout, self.training)
            h = F.normalize(torch.relu(outer(both)), dim=1)
        return F.normalize(self.top(h), dim=1)


NETWORKS: dict[str, Callable[[int, int], nn.Module]] = {"GraphSAGE": SAGE, "LightGCN": LightGCN, "PinSage": PinSage}


def graph_for(kind: str, graph: ItemGraph, top_k: int, seed: int) -> Graph:
    """LightSAGE's edges; LightGCN gives them weights 1/√(deg deg), PinSage replaces them by visits of random walks."""
    neighbours = in_neighbours(graph, PropagationConfig(top_k=top_k))
    n = graph.num_items
    indptr, neighbour, weight = neighbours.indptr, neighbours.neighbour, neighbours.weight
    if kind == "LightGCN":
        incoming, outgoing = np.diff(indptr), np.bincount(neighbour, minlength=n)
        owner = np.repeat(np.arange(n), incoming)
        weight = (1 / np.sqrt(np.maximum(incoming[owner], 1) * np.maximum(outgoing[neighbour], 1))).astype(np.float32)
    if kind == "PinSage":
        indptr, neighbour, weight = visits(indptr, neighbour, weight, top_k, np.random.default_rng(seed))
    return Graph(*(torch.from_numpy(np.ascontiguousarray(part)) for part in (indptr, neighbour, weight)))


def visits(
    indptr: NDArray[np.int64],
    neighbour: NDArray[np.int64],
    weight: NDArray[np.float32],
    top: int,
    rng: np.random.Generator,
    walks: int = 60,
    steps: int = 3,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """The nodes most visited by random walks from every item, with their visits as weights (CSR)."""
    n = len(indptr) - 1
    cumulated = np.concatenate([[0.0], np.cumsum(weight, dtype=np.float64)])
    keys: NDArray[np.int64] = np.zeros(0, np.int64)
    counts: NDArray[np.int64] = np.zeros(0, np.int64)
    for _ in range(walks):
        node = np.arange(n)
        for _ in range(steps):
            low, high = cumulated[indptr[node]], cumulated[indptr[node + 1]]
            edge = np.searchsorted(cumulated, low + rng.random(n) * (high - low), side="right") - 1
            node = np.where(high > low, neighbour[np.clip(edge, 0, max(0, len(neighbour) - 1))], node)
            keys = np.concatenate([keys, np.arange(n) * n + node])
            counts = np.concatenate([counts, np.ones(n, np.int64)])
        keys, back = np.unique(keys, return_inverse=True)
        counts = np.bincount(back, counts).astype(np.int64)
    owner, other = keys // n, keys % n
    owner, other, counts = (part[owner != other] for part in (owner, other, counts))
    order = np.lexsort((other, -counts, owner))
    rank = np.arange(len(order)) - np.searchsorted(owner, owner)
    order = order[rank < top]
    owner, other, counts = owner[order], other[order], counts[order]
    return np.searchsorted(owner, np.arange(n + 1)).astype(np.int64), other, counts.astype(np.float32)


class NetworkTrainer:
    """Trains one of these networks on an item graph step by step, and embeds all items."""

    def __init__(self, kind: str, graph: ItemGraph, params: Params, seed: int) -> None:
        torch.manual_seed(seed)
        self.rng, self.params = np.random.default_rng(seed), params
        config = FeatureConfig()
        matrix = fit_features(graph.items, config, seed).transform(graph.items, graph.item_ids, graph.events >= 1)
        self.graph = graph_for(kind, graph, params["top_k"], seed)
        self.columns = torch.from_numpy(matrix.sparse.indices.astype(np.int64))
        self.offsets = torch.from_numpy(matrix.sparse.indptr.astype(np.int64))
        self.values = torch.from_numpy(matrix.sparse.data.astype(np.float32))
        self.dense = torch.from_numpy(matrix.dense)
        dim = params["dim"]
        self.table = nn.Parameter(0.1 * torch.randn(matrix.sparse.shape[1], dim))
        self.content = nn.Parameter(0.1 * torch.randn(matrix.dense.shape[1], dim))
        self.network = NETWORKS[kind](dim, params["layers"])
        self.pairs = graph.pairs[graph.pair_steps <= 1].astype(np.int64)
        share = np.bincount(self.pairs[:, 1], minlength=graph.num_items) / len(self.pairs)
        self.share = torch.from_numpy(share.astype(np.float32))
        weights = [{"params": [self.table, self.content], "lr": 0.01}]
        if parameters := list(self.network.parameters()):
            weights.append({"params": parameters, "lr": params["lr"]})
        self.optimiser = torch.optim.Adam(weights, fused=True)
        self.rates = [group["lr"] for group in self.optimiser.param_groups]

    def features(self, rows: Tensor) -> Tensor:
        """The (R, D) features of items, projected."""
        entries, offsets = ragged_entries(self.offsets, rows)
        vectors = F.embedding_bag(
            self.columns[entries], self.table, offsets, mode="sum", per_sample_weights=self.values[entries]
        )
        return vectors + self.dense[rows] @ self.content if self.dense.shape[1] else vectors

    def step(self, batch: NDArray[np.int64], rate: float, negatives: int = 512, temperature: float = 0.05) -> float:
        """Train on one batch of pairs, with the first learning rates multiplied by `rate`; returns the loss."""
        for group, start in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = start * rate
        self.network.train()
        n, b = self.graph.num_items, len(batch)
        queries, targets = self.pairs[batch].T
        items = torch.from_numpy(np.concatenate([queries, targets, self.rng.integers(0, n, negatives)]))
        seeds, position = torch.unique(items, return_inverse=True)
        without = torch.from_numpy(np.unique(np.concatenate([queries * n + targets, targets * n + queries])))
        blocks, nodes = sample_blocks(self.graph, seeds, [self.params["fanout"]] * self.params["layers"], without)
        out = self.network(self.features(nodes), blocks, self.params["dropout"])[position]
        counts = expected_counts(self.share, items[b:], b, negatives)
        loss = sampled_softmax(out[:b], out[b:], items[:b], items[b:], counts, SoftmaxOptions(temperature))
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return loss.item()

    def vectors(self) -> Vectors:
        """The (N, D) vectors of all items, from all of their neighbours."""
        self.network.eval()
        with torch.no_grad():
            h = self.features(torch.arange(self.graph.num_items))
            blocks = [full_block(self.graph)] * self.params["layers"]
            return np.asarray(self.network(h, blocks, 0.0).numpy())


def fit(kind: str, graph: ItemGraph, params: Params, seed: int, batch: int = 1024) -> Vectors:
    """The (N, D) vectors after `epochs` passes over the training pairs with linearly falling learning rates."""
    trainer = NetworkTrainer(kind, graph, params, seed)
    batch = min(batch, len(trainer.pairs))
    last = max(1, round(len(trainer.pairs) // batch * params["epochs"]))
    order: NDArray[np.int64] = np.zeros(0, np.int64)
    for step in range(last):
        if len(order) < batch:
            order = trainer.rng.permutation(len(trainer.pairs))
        trainer.step(order[:batch], max(0.02, 1 - step / last))
        order = order[batch:]
    return trainer.vectors()
