"""Canaries: what can be said of a refit without any later event: the length of its vectors, and how far it moved."""

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
    """Mean share of a probe's 20 nearest items, among those that both index folders know, that are the same in both.

    Probes are the shared items with the smallest hashes of their ids: the same ones every night, while they live.

    Returns:
        None where the two share no more than 20 items.
    """
    from retrieval.index_folder import read_index
    from retrieval.queries import Queries
    from retrieval.ranking.embedding_ranker import EmbeddingRanker

    indexes = [read_index(folder) for folder in (new, old)]
    theirs = set(indexes[1].catalogue.item_ids)
    shared = np.array([item for item in indexes[0].catalogue.item_ids if item in theirs], dtype=object)
    if len(shared) <= NEIGHBOURS:
        return None
    chosen = sorted(shared, key=lambda item: blake2b(item.encode(), digest_size=8).digest())[:probes]
    found = []
    for index in indexes:
        rows = rows_of(index.catalogue, chosen)
        eligible = np.zeros(index.catalogue.n_rows, bool)
        eligible[rows_of(index.catalogue, shared)] = True
        ranker = EmbeddingRanker(index.catalogue, index.edges, config.retrieval)
        lists = ranker.rank(Queries.single(rows), NEIGHBOURS, eligible=eligible)
        found.append([set(index.catalogue.item_ids[lists.of(query)[0]]) for query in range(len(lists))])
    return float(np.mean([len(one & other) / NEIGHBOURS for one, other in zip(*found, strict=True)]))


def rows_of(catalogue: "Catalogue", items: "list[str] | NDArray[np.object_]") -> NDArray[np.int64]:
    """Their rows, all of them known."""
    return np.array([catalogue.row_of[item] for item in items], np.int64)


def worst_norm(embeddings: Path) -> float:
    """The largest distance of a vector's length from 1, over both roles; NaN if a vector holds NaN."""
    worst = 0.0
    for role in ("query", "item"):
        matrix = np.load(embeddings / f"{role}.npy", mmap_mode="r", allow_pickle=False)
        for start in range(0, len(matrix), _CHUNK):
            off = np.abs(np.linalg.norm(matrix[start : start + _CHUNK], axis=1) - 1)
            worst = float(np.maximum(worst, off.max()))
    return worst
