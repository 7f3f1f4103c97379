"""Caps, min_score and exclusions give the same results as the rules applied row by row."""

from collections import Counter
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.search.filters import Filters
from retrieval.search.limits import ResultLimits, ResultList
from retrieval.search.request import RetrievalRequest
from retrieval.search.scope import Scope
from tests.oracles.retrieval import slow_retrieve
from tests.retrieval.search.retrievers import N, make_retriever


def one_by_one(rows: list, scores: list, owners: list, k: int, caps: list, left_out: set, min_score: float) -> list:
    lines, counts = [], [Counter(), Counter()]
    for row, score in zip(rows, scores, strict=True):
        full = [cap and owners[c][row] >= 0 and counts[c][owners[c][row]] >= cap for c, cap in enumerate(caps)]
        if row in left_out or score < min_score or any(full):
            continue
        for c in (0, 1):
            counts[c][owners[c][row]] += 1
        lines.append((row, score))
    return lines[:k]


@settings(deadline=None, max_examples=400)
@given(data=st.data(), n=st.integers(0, 60), nested=st.booleans(), few=st.sampled_from([0, 64]))
def test_a_list_in_batches_is_that_of_the_rules_row_after_row(
    data: st.DataObject, n: int, nested: bool, few: int
) -> None:
    with patch("retrieval.search.limits._FEW", few):
        check_batches(data, n, nested)


def check_batches(data: st.DataObject, n: int, nested: bool) -> None:
    draw = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    campaign = draw.integers(-1, 6, n)
    advertiser = campaign // 3 if nested else draw.integers(-1, 4, n)
    # An ad without an advertiser or campaign has a negative number that no other ad has.
    owners = [np.where(of < 0, -1 - np.arange(n), of) for of in (advertiser, campaign)]
    ads = SimpleNamespace(
        advertiser=owners[0], campaign=owners[1], advertisers=dict.fromkeys(range(6)), campaigns=dict.fromkeys(range(6))
    )
    caps = data.draw(st.lists(st.none() | st.integers(1, 4) | st.just(10**30), min_size=2, max_size=2))
    k = data.draw(st.integers(1, 30))
    left_out = set(draw.permutation(n)[: data.draw(st.integers(0, 5))].tolist())
    min_score = data.draw(st.sampled_from([None, -0.5, 0.5, 1e308, -1e308]))
    rows = draw.permutation(n)
    scores = -np.sort(-draw.normal(size=n).astype(np.float32))
    limits = ResultLimits(k, Scope(np.arange(n), np.arange(n), n), left_out, ads, *caps, min_score)
    results, start = ResultList(limits), 0
    while start < n and not (results.full or results.below_min_score):
        size = data.draw(st.integers(1, 30))
        closed, before = set(rows[results.closed(rows)].tolist()), len(results.lines)
        results.extend(rows[start : start + size], scores[start : start + size])
        assert not closed & {row for row, _ in results.lines[before:]}
        start += size
    expected = one_by_one(
        rows.tolist(), scores.tolist(), owners, k, caps, left_out, -np.inf if min_score is None else min_score
    )
    assert results.lines == expected


CAPS = [{"max_per_advertiser": 1}, {"max_per_campaign": 1}, {"max_per_advertiser": 2, "max_per_campaign": 1}]


@pytest.mark.parametrize("kind", ["none", "ivf_sq8", "ivf_pq4"])
@pytest.mark.parametrize("caps", CAPS)
@pytest.mark.parametrize("seed", range(4))
def test_caps_that_cannot_fill_a_list_leave_the_same_results(world, catalogue, edges, kind, caps, seed) -> None:
    rows = world.random_ads(N, 150, seed)
    retriever = make_retriever(world, kind, catalogue, edges, rows)
    for k in (3, 50, 1000):
        request = RetrievalRequest(
            ["item00004"], k, at=world.AS_OF, country="de", filters=Filters(**caps), exclude=["item00007"]
        )
        found = [(result.item_id, result.ad_id) for result in retriever.retrieve(request).results]
        assert found == slow_retrieve(catalogue, world.edge_rows(N), rows, request)
        fallback = RetrievalRequest([], k, at=world.AS_OF, country="de", filters=Filters(**caps))
        assert retriever.retrieve(fallback).items == capped_by_popularity(retriever, fallback)


def capped_by_popularity(retriever, request: RetrievalRequest) -> list[str]:
    scope, ads = retriever.scope(request), retriever.ads
    caps = [request.filters.max_per_advertiser, request.filters.max_per_campaign]
    popular = retriever.popular(scope)
    slots = scope.ads_of(popular)
    owners = [dict(zip(popular.tolist(), of[slots].tolist(), strict=True)) for of in (ads.advertiser, ads.campaign)]
    lines = one_by_one(popular.tolist(), [0.0] * len(popular), owners, request.k, caps, set(), -np.inf)
    return retriever.catalogue.item_ids[[row for row, _ in lines]].tolist()


@pytest.mark.parametrize("kind", ["ivf_sq8", "ivf_pq4"])
def test_all_that_reaches_min_score_is_returned_though_the_index_misses_rows(world, catalogue, edges, kind) -> None:
    retriever = make_retriever(world, kind, catalogue, edges, world.random_ads(N, 200, 3))
    retriever.ann.parameters["nprobe"] = 1  # only one of several lists, so that many rows are missed
    exact = make_retriever(world, "none", catalogue, edges, world.random_ads(N, 200, 3))
    short = 0
    for row in range(N):
        for least in (-0.3, 0.0, 0.2):
            request = RetrievalRequest([catalogue.item_ids[row]], 25, at=world.AS_OF, min_score=least)
            expected = exact.retrieve(request)
            answer = retriever.retrieve(request)
            assert len(answer.items) == len(expected.items)
            if len(expected.items) < 25:
                assert set(answer.items) == set(expected.items)
                short += 1
    assert short > 20


def test_a_request_that_is_not_quick_is_refused_before_the_work(world, catalogue, edges, monkeypatch) -> None:
    from retrieval.errors import SlowRequestError
    from retrieval.search import planner
    from retrieval.search import retriever as module

    monkeypatch.setattr(module, "QUICK_ROWS", 10)
    monkeypatch.setattr(planner, "_QUICK_SORTED", 10)
    retriever = make_retriever(world, "none", catalogue, edges, world.random_ads(N, 200, 3))
    plain = RetrievalRequest(["item00004"], 5)
    with pytest.raises(SlowRequestError):
        retriever.retrieve(plain, quick=True)
    first = retriever.retrieve(plain)
    assert retriever.retrieve(plain, quick=True).items == first.items, "what is at hand is quick"
    for filters in (
        Filters(price_min=1.0),
        Filters(exclude_campaigns=["c1"]),
        Filters(category="Shoes"),
        Filters(max_per_campaign=1),
    ):
        slow = RetrievalRequest(["item00004"], 12, filters=filters)
        with pytest.raises(SlowRequestError):
            retriever.retrieve(slow, quick=True)
        assert retriever.retrieve(slow).items
