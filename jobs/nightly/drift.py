"""Canaries: checks of a refit that need no later events.

They check the length of the refit's vectors, and how many neighbours of items stayed the same.
"""

from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from jobs.config import Config

if TYPE_CHECKING:
    from retrieval.catalogue.items import Catalogue

NEIGHBOURS = 20
_CHUNK = 65_536


def neighbour_overlap(new: Path, old: Path, config: Config, probes: int) -> float | None:
    """Return how many of a probe item's 20 nearest items two versions have in common: the mean share over all probes.

    Probes and neighbours are items that both versions know. The probes are the items whose ids have the smallest
    hashes, so they stay nearly the same from night to night.

    Args:
        new: index folder of one version.
        old: index folder of the other.
        config: the full configuration.
        probes: how many items are compared.

    Returns:
        None if the versions share no more than 20 items.
    """
    from retrieval.index_folder import read_index
    from retrieval.queries import Queries
    from retrieval.ranking.embedding_ranker import EmbeddingRanker

    indexes = [read_index(folder) for folder in (new, old)]
    old_items = set(indexes[1].catalogue.item_ids)
    shared = np.array([item for item in indexes[0].catalogue.item_ids if item in old_items], dtype=object)
    if len(shared) <= NEIGHBOURS:
        return None
    chosen = sorted(shared, key=lambda item: blake2b(item.encode(), digest_size=8).digest())[:probes]
    neighbours = []
    for index in indexes:
        rows = _rows_of(index.catalogue, chosen)
        eligible = np.zeros(index.catalogue.n_rows, bool)
        eligible[_rows_of(index.catalogue, shared)] = True
        ranker = EmbeddingRanker(index.catalogue, index.edges, config.retrieval)
        lists = ranker.rank(Queries.single(rows), NEIGHBOURS, eligible=eligible)
        neighbours.append([set(index.catalogue.item_ids[lists.of(query)[0]]) for query in range(len(lists))])
    return float(np.mean([len(first & second) / NEIGHBOURS for first, second in zip(*neighbours, strict=True)]))


def _rows_of(catalogue: "Catalogue", items: "list[str] | NDArray[np.object_]") -> NDArray[np.int64]:
    return np.array([catalogue.row_of[item] for item in items], np.int64)


def worst_norm(embeddings: Path) -> float:
    """Return the largest difference between 1 and the length of a vector of either role; NaN if a vector has NaN."""
    worst = 0.0
    for role in ("query", "item"):
        matrix = np.load(embeddings / f"{role}.npy", mmap_mode="r", allow_pickle=False)
        for start in range(0, len(matrix), _CHUNK):
            errors = np.abs(np.linalg.norm(matrix[start : start + _CHUNK], axis=1) - 1)
            worst = float(np.maximum(worst, errors.max()))
    return worst
