"""What is exported of a version: one row per item, with its vectors, attributes and ads, in batches.

An exported vector has one more dimension than the item's own: the bias of its score. A query vector ends with 1. So the
inner product of both is similarity + bias, the score without direct edges, earlier views and the tail rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrieval.arrays import Floats, Rows, offsets_from_lengths
from retrieval.catalogue.ads import Ads
from retrieval.config import RetrievalConfig
from retrieval.index_folder import Index
from retrieval.search.filters import category_key
from retrieval.times import microseconds
from retrieval.values import NO_END_FROM

_SECOND = 1_000_000
EVERYWHERE = "*"
"""Stands in the countries of an ad that has no country limit. Every request matches it."""
NO_END = NO_END_FROM // _SECOND
"""The end of an ad without an end, in Unix seconds: the year 3000. An ad without a start starts at 0."""
_AD = pa.struct(
    [
        ("ad_id", pa.string()),
        ("campaign_id", pa.string()),
        ("advertiser_id", pa.string()),
        ("starts_at", pa.timestamp("us", "UTC")),
        ("ends_at", pa.timestamp("us", "UTC")),
        ("countries", pa.list_(pa.string())),
        ("bid", pa.float64()),
    ]
)
AD_FIELDS = tuple(field.name for field in _AD)
_ATTRIBUTES = {"category": pa.string(), "brand": pa.string(), "price": pa.float64(), "title": pa.string()}
_BATCH = 5_000


@dataclass(frozen=True, eq=False)
class Batch:
    """The rows of n items.

    Shapes: vectors, query_vectors (n, D + 1) float32. columns: a table of n rows with item_id, category, categories
    (the category and all above it, as filters compare them), brand, price, title, popularity, ads (in the order in
    which they win) and direct. `direct` lists the items to which the row's item has a direct edge, the largest bonus
    first; a view of the row's item adds the bonus to the score of the listed item.
    """

    vectors: Floats
    query_vectors: Floats
    columns: pa.Table

    def __len__(self) -> int:
        return len(self.vectors)

    def documents(self) -> list[dict[str, Any]]:
        """Return the columns as one dictionary per item; the times of ads are Unix seconds, rounded up.

        Rounding up changes nothing for requests at whole seconds: an ad that starts or ends between two seconds then
        does so at the later one.
        """
        documents = self.columns.to_pylist()
        for document in documents:
            for ad in document["ads"]:
                starts, ends = ad["starts_at"], ad["ends_at"]
                ad["starts_at"] = 0 if starts is None else -(-microseconds(starts) // _SECOND)
                ad["ends_at"] = NO_END if ends is None else -(-microseconds(ends) // _SECOND)
        return documents


@dataclass(frozen=True, eq=False)
class Export:
    """What to export: a version by its name and its index, the settings of requests, and a callback for progress.

    `progress` is called with a message and the share that is done, 0 to 1.
    """

    version: str
    index: Index
    config: RetrievalConfig
    progress: Callable[[str, float], None]

    @property
    def dim(self) -> int:
        """Dimension of the exported vectors, D + 1."""
        return self.index.catalogue.dim + 1

    @cached_property
    def description(self) -> dict[str, Any]:
        """What a client must know: the version, the sizes, and how a query vector is made."""
        index = self.index
        return {
            "version": self.version,
            "as_of": index.as_of.isoformat(),
            "items": index.catalogue.n_rows,
            "advertised_items": self.advertised,
            "dimensions": self.dim,
            "recent_items": self.config.recent_items,
            "recency_weight": self.config.recency_weight,
            "revisit_weight": self.index.edges.revisit_weight,
            "left_out": self.left_out,
        }

    @cached_property
    def advertised(self) -> int:
        """Number of items that are exported with an ad."""
        return self.index.catalogue.n_rows if self._ads is None else len(np.unique(self._ads[0]))

    @property
    def left_out(self) -> list[str]:
        """The parts of this version's scores that the exported vectors do not carry."""
        index = self.index
        tail_rows = index.catalogue.tail_rows
        own_vectors = self.config.long_tail and not np.array_equal(
            index.catalogue.item[tail_rows], index.catalogue.item_unaveraged
        )
        parts = {
            "direct edges": index.edges.direct_weight > 0 and len(index.edges.dst) > 0,
            "earlier views": index.edges.revisit_weight > 0,
            "tail rule": own_vectors,
            "session encoder": index.session_encoder is not None,
            "pre-ranker": index.reranker is not None,
        }
        return [name for name, is_used in parts.items() if is_used]

    def batches(self, size: int = _BATCH) -> Iterator[Batch]:
        """Yield all items in the order of their ids, and report the progress.

        Args:
            size: number of items in a batch.
        """
        catalogue = self.index.catalogue
        for start in range(0, catalogue.n_rows, size):
            rows = slice(start, min(start + size, catalogue.n_rows))
            vectors = np.concatenate([catalogue.item[rows], catalogue.bias[rows, None]], axis=1)
            ones = np.ones((len(vectors), 1), np.float32)
            yield Batch(vectors, np.concatenate([catalogue.query[rows], ones], axis=1), self._columns(rows))
            self.progress(f"{rows.stop:,} of {catalogue.n_rows:,} items", rows.stop / catalogue.n_rows)

    def _columns(self, rows: slice) -> pa.Table:
        catalogue = self.index.catalogue
        attributes = catalogue.attributes.slice(rows.start, rows.stop - rows.start)
        columns: dict[str, Any] = {"item_id": pa.array(catalogue.item_ids[rows], pa.string())}
        for name, kind in _ATTRIBUTES.items():
            has = name in attributes.column_names
            columns[name] = attributes[name].cast(kind) if has else pa.nulls(len(attributes), kind)
        levels = [_levels(category) for category in columns["category"].to_pylist()]
        columns["categories"] = pa.array(levels, pa.list_(pa.string()))
        columns["popularity"] = catalogue.popularity[rows]
        columns["ads"] = self._ads_of(rows)
        columns["direct"] = self._direct_of(rows)
        return pa.table(columns)

    def _direct_of(self, rows: slice) -> pa.Array:
        """Return the direct edges of items, a list for each, the strongest first."""
        source, edge = self.index.edges.positions(np.arange(rows.start, rows.stop))
        bonus = self.index.edges.bonus(edge)
        order = np.lexsort((-bonus, source))
        order = order[bonus[order] > 0]
        offsets = offsets_from_lengths(np.bincount(source[order], minlength=rows.stop - rows.start))
        items = self.index.catalogue.item_ids[self.index.edges.dst[edge[order]]]
        edges = pc.make_struct(pa.array(items, pa.string()), pa.array(bonus[order]), field_names=["item_id", "bonus"])
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), edges)

    def _ads_of(self, rows: slice) -> pa.Array:
        """Return the ads of items, a list for each; without an ads table, every item has one nameless ad."""
        if self._ads is None:
            nameless = dict.fromkeys(AD_FIELDS) | {"countries": [EVERYWHERE]}
            return pa.array([[nameless]] * (rows.stop - rows.start), pa.list_(_AD))
        item_rows, ads = self._ads
        offsets = np.searchsorted(item_rows, np.arange(rows.start, rows.stop + 1))
        part = ads.slice(offsets[0], offsets[-1] - offsets[0])
        return pa.ListArray.from_arrays(pa.array(offsets - offsets[0], pa.int32()), part)

    @cached_property
    def _ads(self) -> tuple[Rows, pa.Array] | None:
        return None if self.index.ads is None else _ads_from(self.index.ads, microseconds(self.index.as_of))


def _ads_from(ads: Ads, at: int) -> tuple[Rows, pa.Array]:
    """Return (the items' rows (A,), ascending, the ads) of the active ads that end after a time (µs).

    An item's ads are in the order in which they win. Ads that have yet to start are among them.
    """
    columns = ads.columns
    slots = np.flatnonzero(columns.active & (columns.ends > at) & (columns.starts < columns.ends))
    table = ads.source.table.take(pa.array(columns.number[slots]))
    countries = [sorted(code.upper() for code in codes) or [EVERYWHERE] for codes in columns.country_sets]
    sets = pa.array(countries, pa.list_(pa.string())).take(pa.array(columns.country_set[slots]))
    values = {name: table[name].combine_chunks() for name in AD_FIELDS if name != "countries"} | {"countries": sets}
    return columns.item_rows[slots], pc.make_struct(
        *(values[name] for name in AD_FIELDS), field_names=list(AD_FIELDS)
    ).cast(_AD)


def _levels(category: str | None) -> list[str]:
    """Return a category and all above it, as filters compare them.

    >>> _levels("Home > Kitchen>Knives")
    ['home', 'home > kitchen', 'home > kitchen > knives']
    """
    if category is None:
        return []
    levels = category_key(category).split(" > ")
    return [" > ".join(levels[: depth + 1]) for depth in range(len(levels))]
