"""The pre-ranker: what retrieval found, put in order by its score and a few interaction counters.

After InteractRank (Pinterest, arXiv 2504.06609): score' = w · [score, IQP_1 … IQP_N], where IQP(p, q) is how often
what belongs to q was opened after what belongs to p, of all that was opened after p. Entities are coarse or fine (an
item, its category, its brand), so that a rare item is known by its kin.
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


# More views than this take time and hardly say more: an older one counts little.
VIEWS = 3


class Context(NamedTuple):
    """What a request says, as the counters name it.

    Shapes: views (V,) int64 the latest viewed rows, most recent last, with their weights (V,) float32.
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
        """Of all viewed rows, each weighing `recency_weight` of the next; a query as it was typed, or hashed."""
        views = views[-VIEWS:]
        weights = np.power(recency_weight, np.arange(len(views))[::-1]).astype(np.float32)
        text = None if query is None else normalise_query(query)
        if text is not None:
            hashed = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)
        return cls(views, weights, None if hashed is None else str(hashed), country.upper() if country else None)


@dataclass(frozen=True, eq=False)
class Counter:
    """Counts of one pair of entity kinds, by the entity of what is viewed or said, in CSR form.

    Shapes: item_of (N,) int32, the entity of each catalogue row on the item's side, −1 for none; indptr (Q + 1,) int64,
    column (E,) int32 ascending within a row, count (E,) float32. The other side's entity is that of a viewed row,
    query_of (N,) int32, −1 for none; or what is said, keys (Q,) of strings, ascending.
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
        """Counted from (view, opened) pairs of catalogue rows (P,) int64 each, with weights (P,) or one each."""
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
        """Counted from pairs of entities (P,) int32 each, −1 for none, with weights (P,)."""
        there = (query >= 0) & (item >= 0)
        n_query = len(keys) if keys is not None else 0 if query_of is None else int(query_of.max(initial=-1)) + 1
        n_item = max(1, int(item_of.max(initial=-1)) + 1)
        key, which = np.unique(query[there].astype(np.int64) * n_item + item[there], return_inverse=True)
        count = np.bincount(which, weight[there], len(key)).astype(np.float32)
        indptr = np.searchsorted(key // n_item, np.arange(n_query + 1)).astype(np.int64)
        return cls(name, item_of, indptr, (key % n_item).astype(np.int32), count, query_of, keys)

    @cached_property
    def of(self) -> Floats:
        """All that followed each entity of what is viewed or said: (Q,) float32."""
        owner = np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))
        return np.bincount(owner, self.count, len(self.indptr) - 1).astype(np.float32)

    @cached_property
    def share(self) -> Floats:
        """Each item entity's share of all that was opened: (I,) float32."""
        opened = np.bincount(self.column, self.count, max(1, int(self.item_of.max(initial=-1)) + 1))
        return (opened / max(opened.sum(), 1e-12)).astype(np.float32)

    @property
    def side(self) -> str:
        """The kind of the item's entity."""
        return self.name.partition(">")[2]

    def entities(self, context: Context) -> list[tuple[int, float]]:
        """The entities of a request that anything followed, with weights that add up to 1."""
        if self.query_of is not None:
            found = self.query_of[context.views]
            pairs = zip(found.tolist(), context.weights.tolist(), strict=True)
            known = [(entity, weight) for entity, weight in pairs if entity >= 0 and self.of[entity] > 0]
        else:
            assert self.keys is not None
            said: str | None = getattr(context, self.name.partition(">")[0])
            place = 0 if said is None else int(np.searchsorted(self.keys, said))
            there = said is not None and place < len(self.keys) and self.keys[place] == said and self.of[place] > 0
            known = [(place, 1.0)] if there else []
        total = sum(weight for _, weight in known)
        return [(entity, weight / total) for entity, weight in known]

    def chances(self, entities: list[tuple[int, float]], wanted: Codes, smoothing: float) -> Floats:
        """(C,) float32: Σ w (count + smoothing · share) / (of + smoothing) of candidates' entities (C,), −1 for none.

        The sum is over the viewed items' entities, or has one term for what is said. Ascending `wanted` are found
        sooner: what stands near in memory is then read together.
        """
        found = np.zeros(len(wanted), np.float32)
        usual = 0.0
        for entity, weight in entities:
            start, end = self.indptr[entity], self.indptr[entity + 1]
            column = self.column[start:end]
            place = column.searchsorted(wanted)
            count = self.count[start:end].take(place, mode="clip")
            count *= column.take(place, mode="clip") == wanted
            scale = weight / (float(self.of[entity]) + smoothing)
            count *= scale
            found += count
            usual += smoothing * scale
        found += usual * self.share[wanted]
        return found


@dataclass(frozen=True, eq=False)
class Reranker:
    """A linear order over the retrieval score and standardised counters; what is not known counts as the mean.

    Shapes: weight (1 + F,) float32, the score's first; mean, deviation (F,) float32. `depth`: so many of the best that
    retrieval found are put in order; what follows them keeps its.
    """

    counters: tuple[Counter, ...]
    weight: Floats
    mean: Floats
    deviation: Floats
    smoothing: float = 10.0
    depth: int = 200

    @property
    def weights(self) -> dict[str, float]:
        """By name: of the retrieval score, and of each counter."""
        names = ["score", *(counter.name for counter in self.counters)]
        return dict(zip(names, self.weight.tolist(), strict=True))

    def features(self, context: Context, rows: Rows) -> Floats:
        """(C, F) float32 standardised log IQP of candidates, 0 where nothing is known."""
        return standardised(raw_features(self.counters, context, rows, self.smoothing), self.mean, self.deviation)

    def scores(self, context: Context, rows: Rows, score: Floats) -> Floats:
        """(C,) float32 for candidates (C,) with their retrieval scores (C,): the higher the better."""
        added: Floats = self.features(context, rows) @ self.weight[1:]
        return self.weight[0] * score + added

    def ordered(self, context: Context, rows: Rows, score: Floats) -> tuple[Rows, Floats]:
        """(rows, scores), best first, of what retrieval found, best first: its `depth` best put in order.

        What follows them stays behind them, at the distances that it had.
        """
        best, depth = rows[: self.depth], self.depth
        first = self.scores(context, best, score[:depth])
        order = np.lexsort((best, -first))
        behind = score[depth:]
        if len(behind):
            behind = self.weight[0] * (behind - score[depth - 1]) + first.min()
        found = np.concatenate([first[order], behind]).astype(np.float32)
        return np.concatenate([best[order], rows[depth:]]), found

    def write(self, folder: Path) -> None:
        """`prerank.npz`."""
        arrays = {
            f"{place}.{name}": array
            for place, counter in enumerate(self.counters)
            for name in ("indptr", "column", "count", "query_of", "keys")
            if (array := getattr(counter, name)) is not None
        }
        arrays |= {f"of.{counter.side}": counter.item_of for counter in self.counters}
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
        """From an index folder.

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
            for place, name in enumerate(arrays["names"].tolist()):
                parts = [arrays[f"{place}.{part}"] for part in ("indptr", "column", "count")]
                others = [arrays.get(f"{place}.{part}") for part in ("query_of", "keys")]
                counters.append(Counter(name, arrays[f"of.{name.partition('>')[2]}"], *parts, *others))
            weight, mean, deviation = (arrays[part] for part in ("weight", "mean", "deviation"))
            settings = float(arrays["smoothing"]), int(arrays["depth"])
            return cls(tuple(counters), weight, mean, deviation, *settings)
        except IndexFolderError:
            raise
        except Exception as error:  # a damaged zip surfaces as any of a dozen errors
            raise IndexFolderError(f"{path}: not readable as a pre-ranker ({error}); build the index again") from error


def raw_features(counters: Sequence[Counter], context: Context, rows: Rows, smoothing: float) -> Floats:
    """(C, F) float32 log IQP of candidate rows (C,), NaN where nothing is known.

    Nothing is where no entity was ever followed, or the candidate has none.
    """
    chance = np.full((len(counters), len(rows)), np.nan, np.float32)
    sides: dict[str, tuple[Rows, Codes]] = {}
    for place, counter in enumerate(counters):
        entities = counter.entities(context)
        if not entities:
            continue
        if counter.side not in sides:
            wanted = counter.item_of[rows]
            order = wanted.argsort()
            sides[counter.side] = order, wanted[order]
        order, wanted = sides[counter.side]
        found = counter.chances(entities, wanted, smoothing)
        if counter.side != "item":  # which every row has
            found[wanted < 0] = np.nan
        chance[place, order] = found
    np.maximum(chance, 1e-9, out=chance)  # NaN stays
    return np.log(chance, out=chance).T


def standardised(raw: Floats, mean: Floats, deviation: Floats) -> Floats:
    """Of mean 0 and deviation 1, NaN as 0."""
    found = (raw - mean) / deviation
    found[np.isnan(found)] = 0.0
    return found
