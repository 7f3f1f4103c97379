"""Warm start: training begins with the weights of an earlier model, matched by item_id and by feature level.

Row numbers differ between versions, so each row of the trainable table is looked up by the item or level it stands for.
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
from model.features import FittedFeatures
from model.network import LightSAGE
from model.vocabulary import Vocabulary


@dataclass(frozen=True)
class WarmStart:
    """An earlier model: its weights, its transforms, and the ids (strings) of the first rows of its table."""

    network: LightSAGE
    features: FittedFeatures
    ids: pa.Array

    @classmethod
    def load(cls, model: Path, graph: Path) -> "WarmStart":
        """Read an earlier model.

        Args:
            model: a version's `model/`
            graph: the `graph/full` that it was trained on
        Raises:
            ModelFormatError: a file is missing or damaged, or the model does not belong to the graph.
        """
        artefact = load_model(model)
        try:
            nodes = pq.read_table(graph / "nodes", columns=["item_id", "events"]).sort_by("item_id")
        except (OSError, pa.ArrowException) as error:
            raise ModelFormatError(f"{graph / 'nodes'} can't be read ({error}): train without a warm start") from error
        ids = nodes.filter(pc.greater_equal(nodes["events"], artefact.config.features.id_min_events))["item_id"]
        rows = len(ids) + sum(vocabulary.size for vocabulary in artefact.features.vocabularies)
        if rows != len(artefact.network.table):
            raise ModelFormatError(
                f"{model} has {len(artefact.network.table)} table rows, but its graph and transforms need {rows}: "
                "train without a warm start"
            )
        return cls(artefact.network, artefact.features, ids.combine_chunks())

    def fits(self, network: LightSAGE) -> bool:
        """Return whether a network has heads of the same shapes and a table of the same width, however many rows."""
        earlier, new = self.network.heads.state_dict(), network.heads.state_dict()
        return self.network.table.shape[1] == network.table.shape[1] and all(
            new[name].shape == weight.shape for name, weight in earlier.items()
        )

    def copy_into(self, network: LightSAGE, features: FittedFeatures, ids: pa.Array) -> float:
        """Copy the heads, and every table row that both models have, into a network that `fits`.

        The projection of the fixed content is copied too, if both models have the same content inputs.

        Args:
            network: the new network; rows without an earlier one keep their initial weights
            features: the transforms of the new model
            ids: ids of the first rows of the new model's table
        Returns:
            the share of the new table's rows that were copied
        """
        keys = _row_keys(features, ids)
        earlier = pc.index_in(keys, _row_keys(self.features, self.ids))
        known = np.flatnonzero(~earlier.is_null().to_numpy(zero_copy_only=False))
        with torch.no_grad():
            network.heads.load_state_dict(self.network.heads.state_dict())
            rows = torch.tensor(earlier.drop_null().to_numpy(), dtype=torch.int64)
            network.table[torch.from_numpy(known)] = self.network.table[rows]
            if self.network.content.shape == network.content.shape and self._has_content_of(features):
                network.content.copy_(self.network.content)
        return len(known) / max(1, len(keys))

    def _has_content_of(self, features: FittedFeatures) -> bool:
        """Return whether the content weights belong to the same inputs.

        Title dimensions have no names, so the whole title basis must be equal.
        """
        return self.features.embedding_dim == features.embedding_dim and np.array_equal(
            self.features.title_basis, features.title_basis
        )


def _row_keys(features: FittedFeatures, ids: pa.Array) -> pa.Array:
    """Return for each row of a table a unique string that names the item or the value of the row."""
    parts = [pc.binary_join_element_wise("id", ids.cast(pa.string()), "\0")]
    parts += [
        pa.array([f"{vocabulary.name}\0{value}" for value in _value_keys(vocabulary)], pa.string())
        for vocabulary in features.vocabularies
    ]
    return pa.concat_arrays(parts)


def _value_keys(vocabulary: Vocabulary) -> list[str]:
    if vocabulary.kind != "buckets":
        return list(vocabulary.values)
    return [f"{i}\0{vocabulary.bounds}" for i in range(vocabulary.size)]
