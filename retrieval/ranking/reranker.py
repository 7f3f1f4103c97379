"""The pre-ranker uses the retrieval score and a few interaction counters to reorder what retrieval found.

It follows InteractRank (Pinterest, arXiv 2504.06609): score' = w · [score, IQP_1 … IQP_N], where IQP(p, q) is the share
of q in all openings after p. p and q are fine or coarse entities (an item, its category, its brand), so that counts of
a category or brand can stand in for those of a rare item. The configuration and the API call this stage `prerank`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrieval.arrays import Floats, Rows
from retrieval.errors import IndexFolderError
from retrieval.query_text import normalise_query

Codes = NDArray[np.int32]
COUNTERS = "prerank.npz"
FORMAT = 1


# Number of latest views that count; older ones take time to look up and have little weight.
VIEWS = 3


class Context(NamedTuple):
    """What the counters know of a request.

    Shapes: views (V,) int64, the latest viewed rows, most recent last; weights (V,) float32, the weights of these rows.
    query: the hash of the normalised search text, as decimal digits. country: in upper case.
    """

    views: Rows
    weights: Floats
    query: str | None = None
    country: str | None = None

    @classmethod
    def of(
        cls,
        views: Rows,
        recency_weight: float,
        *,
        query: str | None = None,
        hashed: int | None = None,
        country: str | None = None,
    ) -> Context:
        """Return the context of a request.

        Args:
            views: (n,) int64, all viewed rows, most recent last; the latest `VIEWS` count.
            recency_weight: the weight of a view relative to the next more recent one.
            query: the search text as it was typed; None = unknown.
            hashed: the hash of the normalised search text, if it is given instead of `query`.
            country: an ISO 3166 alpha-2 code, upper or lower case; None = unknown.
        """
        views = views[-VIEWS:]
        weights = np.power(recency_weight, np.arange(len(views))[::-1]).astype(np.float32)
        text = None if query is None else normalise_query(query)
        if text is not None:
            hashed = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)
        return cls(views, weights, None if hashed is None else str(hashed), country.upper() if country else None)


@dataclass(frozen=True, eq=False)
class Counter:
    """Counts of one pair of entity kinds: how often each item entity was opened after each query entity, in CSR form.

    The name is "query kind>item kind". The query entity is that of a viewed row, or a key such as a search text or a
    country.

    Shapes: item_of (N,) int32, the item entity of each catalogue row, −1 for none; indptr (Q + 1,) int64; column (E,)
    int32, item entities, ascending within a query entity; count (E,) float32; query_of (N,) int32, the query entity of
    each viewed row, −1 for none; keys (Q,): ascending strings, given instead of query_of.
    """

    name: str
    item_of: Codes
    indptr: Rows
    column: Codes
    count: Floats
    query_of: Codes | None = None
    keys: NDArray[np.str_] | None = None

    @classmethod
    def of_pairs(
        cls, name: str, query_of: Codes, item_of: Codes, views: Rows, opened: Rows, weight: Floats | None = None
    ) -> Counter:
        """Count pairs of catalogue rows.

        Args:
            name: "query kind>item kind".
            query_of: (N,) int32, the query entity of each row, −1 for none.
            item_of: (N,) int32, the item entity of each row, −1 for none.
            views: (P,) int64, the viewed row of each pair.
            opened: (P,) int64, the row that was opened after it.
            weight: (P,) float32, the weight of each pair; None = 1 each.
        """
        weight = np.ones(len(views), np.float32) if weight is None else weight
        return cls.of_entities(name, query_of[views], item_of[opened], weight, item_of, query_of=query_of)

    @classmethod
    def of_entities(
        cls,
        name: str,
        query: Codes,
        item: Codes,
        weight: Floats,
        item_of: Codes,
        *,
        query_of: Codes | None = None,
        keys: NDArray[np.str_] | None = None,
    ) -> Counter:
        """Count pairs of entities.

        Args:
            name: "query kind>item kind".
            query: (P,) int32, the query entity of each pair, −1 for none.
            item: (P,) int32, the item entity of each pair, −1 for none.
            weight: (P,) float32, the weight of each pair.
            item_of: (N,) int32, the item entity of each catalogue row, −1 for none.
            query_of: (N,) int32, the query entity of each catalogue row, −1 for none.
            keys: (Q,), ascending strings that name the query entities; given instead of `query_of`.
        """
        valid = (query >= 0) & (item >= 0)
        n_query = len(keys) if keys is not None else 0 if query_of is None else int(query_of.max(initial=-1)) + 1
        n_item = max(1, int(item_of.max(initial=-1)) + 1)
        pair, which = np.unique(query[valid].astype(np.int64) * n_item + item[valid], return_inverse=True)
        count = np.bincount(which, weight[valid], len(pair)).astype(np.float32)
        indptr = np.searchsorted(pair // n_item, np.arange(n_query + 1)).astype(np.int64)
        return cls(name, item_of, indptr, (pair % n_item).astype(np.int32), count, query_of, keys)

    @cached_property
    def total(self) -> Floats:
        """The sum of counts of each query entity: (Q,) float32."""
        owner = np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))
        return np.bincount(owner, self.count, len(self.indptr) - 1).astype(np.float32)

    @cached_property
    def share(self) -> Floats:
        """Each item entity's share of all counts: (I,) float32."""
        opened = np.bincount(self.column, self.count, max(1, int(self.item_of.max(initial=-1)) + 1))
        return (opened / max(opened.sum(), 1e-12)).astype(np.float32)

    @property
    def query_kind(self) -> str:
        """The kind of the query entities."""
        return self.name.partition(">")[0]

    @property
    def item_kind(self) -> str:
        """The kind of the item entities."""
        return self.name.partition(">")[2]

    def entities(self, context: Context) -> list[tuple[int, float]]:
        """Return the request's query entities that have counts, with their weights, which add up to 1."""
        if self.query_of is not None:
            of_views = self.query_of[context.views]
            pairs = zip(of_views.tolist(), context.weights.tolist(), strict=True)
            counted = [(entity, weight) for entity, weight in pairs if entity >= 0 and self.total[entity] > 0]
        else:
            counted = [(entity, 1.0) for entity in self._entity_of_key(context)]
        total = sum(weight for _, weight in counted)
        return [(entity, weight / total) for entity, weight in counted]

    def _entity_of_key(self, context: Context) -> list[int]:
        assert self.keys is not None
        key: str | None = getattr(context, self.query_kind)
        if key is None:
            return []
        entity = int(np.searchsorted(self.keys, key))
        known = entity < len(self.keys) and self.keys[entity] == key and self.total[entity] > 0
        return [entity] if known else []

    def probabilities(self, entities: list[tuple[int, float]], items: Codes, smoothing: float) -> Floats:
        """Return the smoothed IQP of item entities: Σ w (count + smoothing · share) / (total + smoothing).

        Args:
            entities: the query entities and their weights w, as `entities` returns them.
            items: (C,) int32, item entities; ascending order makes the look-up faster, because neighbours in memory are
                read together. The value returned for −1 means nothing.
            smoothing: number of openings that are added to those of each query entity.

        Returns:
            (C,) float32.
        """
        iqp = np.zeros(len(items), np.float32)
        prior = 0.0
        for entity, weight in entities:
            start, end = self.indptr[entity], self.indptr[entity + 1]
            column = self.column[start:end]
            position = column.searchsorted(items)
            count = self.count[start:end].take(position, mode="clip")
            count *= column.take(position, mode="clip") == items
            scale = weight / (float(self.total[entity]) + smoothing)
            count *= scale
            iqp += count
            prior += smoothing * scale
        iqp += prior * self.share[items]
        return iqp


@dataclass(frozen=True, eq=False)
class Reranker:
    """A linear combination of the retrieval score and of standardised log IQPs; an unknown IQP counts as the mean.

    Shapes: weight (1 + F,) float32, the weight of the retrieval score first; mean, deviation (F,) float32, of the log
    IQPs. smoothing: number of openings added to those of each query entity. depth: how many of a list's best rows are
    reordered; the rows behind them keep their order.
    """

    counters: tuple[Counter, ...]
    weight: Floats
    mean: Floats
    deviation: Floats
    smoothing: float = 10.0
    depth: int = 200

    @property
    def weights(self) -> dict[str, float]:
        """The weights of the retrieval score ("score") and of each counter, by its name."""
        names = ["score", *(counter.name for counter in self.counters)]
        return dict(zip(names, self.weight.tolist(), strict=True))

    def features(self, context: Context, rows: Rows) -> Floats:
        """Return the standardised log IQPs (C, F) float32 of candidate rows (C,), 0 where nothing is known."""
        return standardised(raw_features(self.counters, context, rows, self.smoothing), self.mean, self.deviation)

    def scores(self, context: Context, rows: Rows, score: Floats) -> Floats:
        """Return the new scores (C,) float32 of candidate rows (C,) that have retrieval scores (C,)."""
        added: Floats = self.features(context, rows) @ self.weight[1:]
        return self.weight[0] * score + added

    def ordered(self, context: Context, rows: Rows, score: Floats) -> tuple[Rows, Floats]:
        """Reorder the `depth` best rows of a list; the others stay behind them, in their order.

        Args:
            context: what is known of the request.
            rows: (C,) int64, best first.
            score: (C,) float32, their retrieval scores.

        Returns:
            (rows (C,) int64, scores (C,) float32), best first.
        """
        best, depth = rows[: self.depth], self.depth
        first = self.scores(context, best, score[:depth])
        order = np.lexsort((best, -first))
        behind = score[depth:]
        if len(behind):
            behind = self.weight[0] * (behind - score[depth - 1]) + first.min()
        scores = np.concatenate([first[order], behind]).astype(np.float32)
        return np.concatenate([best[order], rows[depth:]]), scores

    def write(self, folder: Path) -> None:
        """Write `prerank.npz` into an index folder."""
        arrays = {
            f"{number}.{name}": array
            for number, counter in enumerate(self.counters)
            for name in ("indptr", "column", "count", "query_of", "keys")
            if (array := getattr(counter, name)) is not None
        }
        arrays |= {f"of.{counter.item_kind}": counter.item_of for counter in self.counters}
        np.savez(
            folder / COUNTERS,
            allow_pickle=False,
            format=np.array(FORMAT),
            names=np.array([counter.name for counter in self.counters], np.str_),
            weight=self.weight,
            mean=self.mean,
            deviation=self.deviation,
            smoothing=np.array(self.smoothing),
            depth=np.array(self.depth),
            **arrays,
        )

    @classmethod
    def read(cls, folder: Path) -> Reranker:
        """Read `prerank.npz` from an index folder.

        Raises:
            IndexFolderError: the file is missing, damaged or of another format.
        """
        path = folder / COUNTERS
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            if int(arrays["format"]) != FORMAT:
                raise IndexFolderError(
                    f"{path}: format version {arrays['format']}, this code reads {FORMAT}; build the index again"
                )
            counters = []
            for number, name in enumerate(arrays["names"].tolist()):
                counts = [arrays[f"{number}.{part}"] for part in ("indptr", "column", "count")]
                entities = [arrays.get(f"{number}.{part}") for part in ("query_of", "keys")]
                counters.append(Counter(name, arrays[f"of.{name.partition('>')[2]}"], *counts, *entities))
            weight, mean, deviation = (arrays[part] for part in ("weight", "mean", "deviation"))
            settings = float(arrays["smoothing"]), int(arrays["depth"])
            return cls(tuple(counters), weight, mean, deviation, *settings)
        except IndexFolderError:
            raise
        except Exception as error:  # a damaged zip file may raise any of a dozen errors
            raise IndexFolderError(f"{path}: not readable as a pre-ranker ({error}); build the index again") from error


def raw_features(counters: Sequence[Counter], context: Context, rows: Rows, smoothing: float) -> Floats:
    """Return the log IQPs of candidate rows.

    Args:
        counters: F counters.
        context: what is known of the request.
        rows: (C,) int64, candidate rows.
        smoothing: number of openings that are added to those of each query entity.

    Returns:
        (C, F) float32; NaN if nothing was ever opened after the request's entities or the candidate has no entity.
    """
    iqp = np.full((len(counters), len(rows)), np.nan, np.float32)
    sorted_entities: dict[str, tuple[Rows, Codes]] = {}
    for number, counter in enumerate(counters):
        entities = counter.entities(context)
        if not entities:
            continue
        if counter.item_kind not in sorted_entities:
            items = counter.item_of[rows]
            order = items.argsort()
            sorted_entities[counter.item_kind] = order, items[order]
        order, items = sorted_entities[counter.item_kind]
        probability = counter.probabilities(entities, items, smoothing)
        if counter.item_kind != "item":  # every row is an item
            probability[items < 0] = np.nan
        iqp[number, order] = probability
    np.maximum(iqp, 1e-9, out=iqp)  # NaN stays
    return np.log(iqp, out=iqp).T


def standardised(raw: Floats, mean: Floats, deviation: Floats) -> Floats:
    """Return features scaled to mean 0 and deviation 1, with 0 for NaN: (C, F) float32.

    Args:
        raw: (C, F) float32, NaN where nothing is known.
        mean: (F,) float32.
        deviation: (F,) float32.
    """
    features = (raw - mean) / deviation
    features[np.isnan(features)] = 0.0
    return features
