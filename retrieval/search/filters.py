"""The conditions of a request on items and ads, and the rules that test items, each with a mask and an explanation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from retrieval.arrays import Mask
from retrieval.byte_cache import ByteCache
from retrieval.errors import RequestError
from retrieval.values import clean_text

ID_LENGTH = 512
Number = Annotated[float, Field(allow_inf_nan=False)]


class Filters(BaseModel):
    """Conditions on the results of a request; ads are excluded before an item's winning ad is chosen."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    category: str | None = Field(
        None,
        max_length=ID_LENGTH,
        description="This category or any below it, in upper or lower case (levels split by '>')",
    )
    price_min: Number | None = Field(None, description="Lowest price; an item without a price does not pass")
    price_max: Number | None = Field(None, description="Highest price; an item without a price does not pass")
    exclude_advertisers: list[str] = []
    exclude_campaigns: list[str] = []
    max_per_advertiser: int | None = Field(None, ge=1)
    max_per_campaign: int | None = Field(None, ge=1)


NO_FILTERS = Filters()


def category_key(category: str) -> str:
    """Return a category in the form in which categories are compared: case-folded, each level without blanks around it.

    >>> category_key("Home>Kitchen  > Knives")
    'home > kitchen > knives'
    """
    levels = (clean_text(level) or "" for level in category.split(">"))
    return clean_text(" > ".join(levels).casefold()) or ""


class ItemRule(NamedTuple):
    """One condition on items.

    passes: (N,) bool, the items that fulfil it. explain: returns why the item of a row does not fulfil it.
    """

    passes: Mask
    explain: Callable[[int], str]


class ItemFilter:
    """Applies the conditions on items to a catalogue.

    Args:
        attributes: a table of N rows, with the columns category and price if the catalogue has them.
        cache: where the masks of categories are kept; None = nowhere.
    """

    def __init__(self, attributes: pa.Table, cache: ByteCache | None = None) -> None:
        self._attributes = attributes
        self._categories: pa.DictionaryArray | None = None
        if "category" in attributes.column_names:
            self._categories = pc.dictionary_encode(attributes["category"].combine_chunks())
            names = self._categories.dictionary.to_pylist()
            self._keys = pa.array([None if name is None else category_key(name) for name in names], pa.string())
        self._price = None
        if "price" in attributes.column_names:
            self._price = pc.fill_null(attributes["price"].cast(pa.float64()), float("nan")).to_numpy()
        self._cache = cache or ByteCache(0)
        levels = [] if self._categories is None else [key.split(" > ") for key in self._keys.to_pylist() if key]
        self._known = frozenset(" > ".join(path[:depth]) for path in levels for depth in range(1, len(path) + 1))

    def reasons(self, filters: Filters, row: int) -> list[str]:
        """Return why the item of a row does not pass: a sentence for each condition that it does not fulfil."""
        return [rule.explain(row) for rule in self.rules(filters) if not rule.passes[row]]

    def rules(self, filters: Filters) -> list[ItemRule]:
        """Return the rules of a request's conditions on items.

        Raises:
            RequestError: a condition is on a column that this catalogue does not have, or the price range is empty.
        """
        rules = []
        if filters.category is not None:
            rules.append(self._category_rule(filters.category))
        if filters.price_min is not None or filters.price_max is not None:
            rules.append(self._price_rule(filters.price_min, filters.price_max))
        return rules

    def _category_rule(self, category: str) -> ItemRule:
        def explain(row: int) -> str:
            return f"its category {self._value('category', row)!r} is not {category!r} nor below it"

        key = self.category(category)
        return ItemRule(self.in_category(key) if key in self._known else np.zeros(len(self._attributes), bool), explain)

    def category(self, category: str) -> str:
        """Return the form in which a category is compared.

        Raises:
            RequestError: this catalogue has no categories.
        """
        if self._categories is None:
            raise RequestError("filters.category", "this catalogue has no categories; leave the filter out")
        return category_key(category)

    def knows(self, key: str) -> bool:
        """Return whether any item of the catalogue is in a category or below it; `key` comes from `category_key`."""
        return key in self._known

    def in_category(self, key: str) -> Mask:
        """Return the items that are in a category or below it, (N,) bool; `key` comes from `category_key`."""
        mask: Mask | None = self._cache.get(("category", key))
        if mask is None:
            assert self._categories is not None
            below = pc.starts_with(self._keys, f"{key} > ")
            matching = pc.fill_null(pc.or_(pc.equal(self._keys, key), below), False)
            codes = pc.fill_null(self._categories.indices, len(self._keys)).to_numpy(zero_copy_only=False)
            mask = np.append(matching.to_numpy(zero_copy_only=False), False)[codes]
            mask = self._cache.put(("category", key), mask, mask.nbytes)
        return mask

    def priced(self, filters: Filters) -> Mask | None:
        """Return the items within the price range of a request, (N,) bool; None if it has none.

        Raises:
            RequestError: this catalogue has no prices, or the range is empty.
        """
        if filters.price_min is None and filters.price_max is None:
            return None
        return self._price_rule(filters.price_min, filters.price_max).passes

    def _price_rule(self, low: float | None, high: float | None) -> ItemRule:
        if self._price is None:
            field = "filters.price_min" if low is not None else "filters.price_max"
            raise RequestError(field, "this catalogue has no prices; leave the filter out")
        if low is not None and high is not None and low > high:
            raise RequestError("filters.price_min", f"{low} is above price_max {high}")
        # A missing price is NaN. Every comparison with NaN is false, so the item passes no bound.
        passes = np.ones(len(self._price), bool)
        if low is not None:
            passes &= self._price >= low
        if high is not None:
            passes &= self._price <= high

        def explain(row: int) -> str:
            bounds = f"{'any' if low is None else low} and {'any' if high is None else high}"
            return f"its price {self._value('price', row)} is not between {bounds}"

        return ItemRule(passes, explain)

    def _value(self, column: str, row: int) -> Any:
        return self._attributes[column][row].as_py()
