"""What a request may ask of its ads: by category, price, advertiser and campaign."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from retrieval.arrays import Mask
from retrieval.errors import RequestError

ID_LENGTH = 512
Number = Annotated[float, Field(allow_inf_nan=False)]


class Filters(BaseModel):
    """Conditions on the results of a request; those on ads apply before an item's winning ad is chosen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    category: str | None = Field(
        None, max_length=ID_LENGTH, description="This category or any below it, in any case (levels split by ' > ')"
    )
    price_min: Number | None = Field(None, description="Lowest price; an item without a price does not pass")
    price_max: Number | None = Field(None, description="Highest price; an item without a price does not pass")
    exclude_advertisers: list[str] = []
    exclude_campaigns: list[str] = []
    max_per_advertiser: int | None = Field(None, ge=1)
    max_per_campaign: int | None = Field(None, ge=1)


NO_FILTERS = Filters()


class ItemFilter:
    """Masks over the catalogue for the conditions on items."""

    def __init__(self, attributes: pa.Table) -> None:
        self._attributes = attributes
        self._categories: pa.DictionaryArray | None = None
        if "category" in attributes.column_names:
            self._categories = pc.dictionary_encode(attributes["category"].combine_chunks())
            names = self._categories.dictionary.to_pylist()
            self._folded = pa.array([None if name is None else name.casefold() for name in names], pa.string())
        self._price = None
        if "price" in attributes.column_names:
            self._price = pc.fill_null(attributes["price"].cast(pa.float64()), float("nan")).to_numpy()
        self._in_category = lru_cache(maxsize=64)(self._category_mask)

    def mask(self, filters: Filters) -> Mask | None:
        """Items that pass, (N,) bool; None when nothing is asked of items.

        Raises:
            RequestError: a filter on a column that this catalogue does not have, or an empty range of prices.
        """
        passing: Mask | None = None
        if filters.category is not None:
            passing = self._in_category(filters.category.casefold())
        low, high = filters.price_min, filters.price_max
        if low is None and high is None:
            return passing
        if self._price is None:
            field = "filters.price_min" if low is not None else "filters.price_max"
            raise RequestError(field, "this catalogue has no prices; leave the filter out")
        if low is not None and high is not None and low > high:
            raise RequestError("filters.price_min", f"{low} is above price_max {high}")
        within = np.ones(len(self._price), bool) if passing is None else passing.copy()
        # A missing price is NaN, which compares false: it must fail any bound, also the only one.
        if low is not None:
            within &= self._price >= low
        if high is not None:
            within &= self._price <= high
        return within

    def _category_mask(self, category: str) -> Mask:
        if self._categories is None:
            raise RequestError("filters.category", "this catalogue has no categories; leave the filter out")
        names = self._folded
        below = pc.starts_with(names, f"{category} > ")
        matching = pc.fill_null(pc.or_(pc.equal(names, category), below), False)
        codes = pc.fill_null(self._categories.indices, len(names)).to_numpy(zero_copy_only=False)
        return np.append(matching.to_numpy(zero_copy_only=False), False)[codes]
