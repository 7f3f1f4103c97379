"""Warm start: training that begins with the weights of an earlier model, joined by item_id and by feature level.

Row numbers are private to a version, so that every row of the trainable table is looked up by what it stands for.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from model.artefact import load_model
from model.errors import ModelFormatError
from model.features import FittedFeatures, Vocabulary
from model.network import LightSAGE


@dataclass(frozen=True)
class WarmStart:
    """An earlier model: its weights, its transforms, and `ids` (strings), the items of the first rows of its table."""

    network: LightSAGE
    features: FittedFeatures
    ids: pa.Array

    @classmethod
    def load(cls, model: Path, graph: Path) -> "WarmStart":
        """From a version's `model/` and the `graph/full` that it was trained on.

        Raises:
            ModelFormatError: a file is missing or damaged, or the two do not belong together.
        """
        found = load_model(model)
        try:
            nodes = pq.read_table(graph / "nodes", columns=["item_id", "events"]).sort_by("item_id")
        except (OSError, pa.ArrowException) as error:
            raise ModelFormatError(f"{graph / 'nodes'} can't be read ({error}): train without a warm start") from error
        ids = nodes.filter(pc.greater_equal(nodes["events"], found.config.features.id_min_events))["item_id"]
        rows = len(ids) + sum(vocabulary.size for vocabulary in found.features.vocabularies)
        if rows != len(found.network.table):
            raise ModelFormatError(
                f"{model} has {len(found.network.table)} table rows, its graph and transforms ask for {rows}: "
                "train without a warm start"
            )
        return cls(found.network, found.features, ids.combine_chunks())

    def fits(self, network: LightSAGE) -> bool:
        """Whether a network is of the same shape but for the rows of its table."""
        mine, other = self.network.heads.state_dict(), network.heads.state_dict()
        return self.network.table.shape[1] == network.table.shape[1] and all(
            other[name].shape == weight.shape for name, weight in mine.items()
        )

    def copy_into(self, network: LightSAGE, features: FittedFeatures, ids: pa.Array) -> float:
        """Copy the weights of every row that the earlier table has too; returns the share of rows that were found.

        Args:
            network: of `fits`; what it does not find keeps its own start.
            features: its transforms; ids: the items of the first rows of its table.
        """
        theirs = _rows(features, ids)
        found = pc.index_in(theirs, _rows(self.features, self.ids))
        known = np.flatnonzero(~found.is_null().to_numpy(zero_copy_only=False))
        with torch.no_grad():
            network.heads.load_state_dict(self.network.heads.state_dict())
            rows = torch.tensor(found.drop_null().to_numpy(), dtype=torch.int64)
            network.table[torch.from_numpy(known)] = self.network.table[rows]
            if self.network.content.shape == network.content.shape and self._same_content(features):
                network.content.copy_(self.network.content)
        return len(known) / max(1, len(theirs))

    def _same_content(self, features: FittedFeatures) -> bool:
        """Whether the rows of the content weights stand for the same: a title basis has no names to join them by."""
        mine, theirs = self.features, features
        return mine.embedding_dim == theirs.embedding_dim and np.array_equal(mine.title_basis, theirs.title_basis)


def _rows(features: FittedFeatures, ids: pa.Array) -> pa.Array:
    """What each row of a table stands for, as a string that no other row has."""
    parts = [pc.binary_join_element_wise("id", ids.cast(pa.string()), "\0")]
    parts += [
        pa.array([f"{vocabulary.name}\0{value}" for value in _values(vocabulary)], pa.string())
        for vocabulary in features.vocabularies
    ]
    return pa.concat_arrays(parts)


def _values(vocabulary: Vocabulary) -> list[str]:
    if vocabulary.kind != "buckets":
        return list(vocabulary.values)
    return [f"{i}\0{vocabulary.bounds}" for i in range(vocabulary.size)]
