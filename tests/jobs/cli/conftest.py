"""Fixtures for the tests of the commands."""

import pyarrow.parquet as pq
import pytest

from tests.jobs.conftest import Shop


@pytest.fixture(scope="session")
def popular_items(shop: Shop) -> list[str]:
    """Return all items of the shop's index, items with the most events first."""
    items = pq.read_table(shop.version / "index" / "items.parquet")
    return items.sort_by([("events", "descending")])["item_id"].to_pylist()
