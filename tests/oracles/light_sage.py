"""LightSAGE and its long-tail rule on a small graph, computed by loops over dense rows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.encoder_input import EncoderInput
from model.features import FeatureMatrix
from model.graph import ItemGraph
from model.network import LightSAGE
from model.propagation import Neighbourhood
from model.tail import TailGroups


@dataclass(frozen=True)
class Scene:
    """A small graph with its encoder input and network; the methods are slow reference implementations."""

    graph: ItemGraph
    features: FeatureMatrix
    neighbours: Neighbourhood
    groups: TailGroups
    encoder: EncoderInput
    network: LightSAGE

    def own_features(self) -> NDArray[np.float64]:
        """Return (N, D) own features of all items: s = X E + d C."""
        table, content = (w.detach().numpy().astype(np.float64) for w in (self.network.table, self.network.content))
        return np.asarray(self.features.sparse.toarray() @ table + self.features.dense @ content)

    def group_mean(self) -> dict[int, NDArray[np.float64]]:
        """Return, for the row of each grouped tail item, the mean of its group's features."""
        own, rows, group = self.own_features(), self.groups.rows, self.groups.group
        return {int(r): own[rows[group == g]].mean(axis=0) for r, g in zip(rows, group, strict=True)}

    def training_features(self) -> NDArray[np.float64]:
        """Return (N, D) features of the items in training: their own, but group means for tail items with events."""
        out, means = self.own_features(), self.group_mean()
        for item in range(len(out)):
            if item in means and self.graph.events[item] > 0:
                out[item] = means[item]
        return out

    def average(self, item: int, without: int | None = None) -> NDArray[np.float64]:
        """Return (D,) the average of an item's in-neighbours except `without`; for a cold item, its group's mean."""
        features, means = self.training_features(), self.group_mean()
        if self.graph.events[item] == 0 and item in means:
            return means[item]
        first, end = self.neighbours.indptr[item : item + 2]
        edges = [e for e in range(first, end) if self.neighbours.neighbour[e] != without]
        total = sum(float(self.neighbours.weight[e]) for e in edges)
        rows = [self.neighbours.weight[e] / total * features[self.neighbours.neighbour[e]] for e in edges]
        return np.sum(rows, axis=0) if rows else np.zeros(features.shape[1])

    def head(self, own: NDArray[np.float64], average: NDArray[np.float64], role: str) -> NDArray[np.float64]:
        """Return (D,) one embedding: the members' unit vectors one after the other, scaled to length 1 together."""
        weight, bias = (p.detach().numpy().astype(np.float64) for p in self.network.heads[role].parameters())
        parts = []
        for member in range(len(weight)):
            dims = slice(member * weight.shape[2], (member + 1) * weight.shape[2])
            out = np.concatenate([own[dims], average[dims]]) @ weight[member] + bias[member]
            parts.append(out / np.linalg.norm(out))
        return np.concatenate(parts) / np.sqrt(len(parts))
