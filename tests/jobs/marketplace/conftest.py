"""A small marketplace, generated once."""

import pyarrow.parquet as pq
import pytest

from jobs.marketplace import generate
from tests.jobs.marketplace.market import SMALL, Market, is_valid


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> Market:
    files = generate(SMALL, tmp_path_factory.mktemp("market"))
    events, items, ads, test = (
        pq.read_table(path) for path in (files.events, files.items, files.ads, files.test_events)
    )
    return Market([row for row in events.to_pylist() if is_valid(row)], events, items, ads, test)
