"""The cache of a retriever stays within its limit of bytes, whatever the requests are."""

import gc
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import pytest

from retrieval.catalogue.ads import Ads
from retrieval.config import RetrievalConfig
from retrieval.search.filters import Filters
from retrieval.search.request import RetrievalRequest
from retrieval.search.retriever import Retriever

N = 1500


@pytest.fixture(scope="module")
def retriever_of(world):
    catalogue = world.small_catalogue(N)
    # Every item has a category of its own, which is below one of 50 categories.
    categories = pa.array([f"Level {row % 50} > Shelf {row}" for row in range(N)])
    names = catalogue.attributes.column_names
    attributes = catalogue.attributes.set_column(names.index("category"), "category", categories)
    object.__setattr__(catalogue, "attributes", attributes)
    edges = world.small_edges(catalogue)
    ads = Ads.from_table(world.ads_table(world.random_ads(N, 3 * N, 1)), catalogue.row_of, quiet=True)

    def make(budget: int) -> Retriever:
        config = RetrievalConfig(scope_cache_bytes=budget)
        return Retriever(catalogue, edges, ads, None, as_of=world.AS_OF, config=config)

    return make


def distinct_requests(world, retriever: Retriever, n: int):
    """Yield requests that differ in time, country, category, price and exclusions."""
    bounds = retriever.ads.bounds
    for number in range(n):
        kind = number % 5
        category = (f"Level {number % 50} > Shelf {number % N}", f"Level {number % 50}", f"made up {number}")[
            number % 3
        ]
        filters = {
            0: {"category": category},
            1: {"category": category, "price_min": number / 7},
            2: {"category": category, "exclude_campaigns": [f"c{number}"]},
            3: {"category": f"nothing {number}" * 20},
            4: {"price_max": float(number), "category": category},
        }[kind]
        yield RetrievalRequest(
            [f"item{number % N:05d}"],
            5,
            at=int(bounds[number % len(bounds)]),
            country=(None, "DE", "fr", "XX", "US")[number % 7 % 5],
            filters=Filters(**filters),
        )


def test_unknown_categories_and_countries_cost_nothing(world, retriever_of) -> None:
    retriever = retriever_of(10**9)
    retriever.retrieve(RetrievalRequest(["item00001"], 5, at=world.AS_OF))
    before = retriever.cache_bytes
    for number in range(200):
        request = RetrievalRequest(
            ["item00001"], 5, at=world.AS_OF, country="QQ", filters=Filters(category=f"Level 1 > {number}")
        )
        assert retriever.retrieve(request).items == []
    assert retriever.cache_bytes == before


def test_times_between_which_no_ad_starts_or_ends_share_one_scope(world, retriever_of) -> None:
    retriever = retriever_of(10**9)
    bound = int(retriever.ads.bounds[5])
    requests = [
        RetrievalRequest([], 1, at=at, country=country) for at in (bound, bound + 1) for country in ("jp", None)
    ]
    assert len({id(retriever.scope(request)) for request in requests}) == 1
    before = retriever.scope(RetrievalRequest([], 1, at=bound - 1))
    assert before is not retriever.scope(requests[0])


@pytest.mark.parametrize("budget", [0, 50_000, 1_000_000])
def test_the_budget_holds_and_changes_no_result(world, retriever_of, budget: int) -> None:
    bounded, free = retriever_of(budget), retriever_of(10**9)
    for request in distinct_requests(world, bounded, 400):
        assert bounded.retrieve(request).results == free.retrieve(request).results
        assert bounded.cache_bytes <= budget
    assert free.cache_bytes > 1_000_000


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_memory_after_100_000_distinct_filters_is_that_of_the_budget(world, retriever_of) -> None:
    budget = 20_000_000
    retriever = retriever_of(budget)
    for request in distinct_requests(world, retriever, 1000):
        retriever.retrieve(request)
    retriever.replace_ads(retriever.ads)
    quiet = resident_bytes()
    for request in distinct_requests(world, retriever, 100_000):
        retriever.retrieve(request)
    assert retriever.cache_bytes <= budget
    assert resident_bytes() - quiet <= 1.2 * budget + 20_000_000


def test_scopes_are_ready_when_changed_ads_replace_the_present_ones(world, retriever_of) -> None:
    """The latest requests are quick again right after a change of ads, and get the changed ads."""
    retriever = retriever_of(10**9)
    filters = [Filters(), Filters(category="Level 3")]
    requests = [
        RetrievalRequest(["item00003"], 20, at=world.AS_OF, country=country, filters=conditions)
        for country in (None, "DE")
        for conditions in filters
    ]
    before = [retriever.retrieve(request).results for request in requests]
    winner = before[0][0].ad_id
    row = retriever.ads.row(winner)
    changed = [retriever.ads.replaced(world.ads_table([row | {"status": status}])) for status in ("paused", "stopped")]
    for ads in changed:  # only the last of these comes into effect
        retriever.prepare_ads(ads)
    assert [retriever.retrieve(request).results for request in requests] == before
    retriever.replace_ads(changed[1])
    with patch("retrieval.search.retriever.QUICK_ROWS", 0):
        after = [retriever.retrieve(request, quick=True).results for request in requests]
    fresh = Retriever(
        retriever.catalogue, retriever.ranker.edges, changed[1], None, as_of=world.AS_OF, config=retriever.config
    )
    assert after == [fresh.retrieve(request).results for request in requests] != before
    retriever.prepare_ads(changed[0])
    retriever.replace_ads(changed[1].replaced(world.ads_table([row])))
    assert [retriever.retrieve(request).results for request in requests] == before


def test_scopes_are_ready_when_an_ad_starts_or_ends(world, retriever_of) -> None:
    retriever = retriever_of(10**9)
    now = int(retriever.ads.bounds[7])
    bounds = retriever.ads.bounds[8:11].tolist()

    def requests(at: int) -> list[RetrievalRequest]:
        return [
            RetrievalRequest(["item00003"], 20, at=at, country=country, filters=Filters(category=category))
            for country in (None, "fr")
            for category in (None, "Level 3")
        ]

    for request in requests(now):
        retriever.retrieve(request)
    retriever.pinned().prepare_time(now, bounds[-1])
    fresh = retriever_of(0)
    for at in bounds:
        with patch("retrieval.search.retriever.QUICK_ROWS", 0):
            ready = [retriever.retrieve(request, quick=True).results for request in requests(at)]
        assert ready == [fresh.retrieve(request).results for request in requests(at)]
    before = retriever.cache_bytes
    retriever.prepare_time(bounds[-1], bounds[-1] + 1)
    assert retriever.cache_bytes == before, "nothing starts or ends"
