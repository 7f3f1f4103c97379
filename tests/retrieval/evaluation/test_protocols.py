"""The protocols equal loops that follow their definitions step by step."""

from collections import defaultdict
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from retrieval.catalogue.ads import Ads
from retrieval.config import RetrievalConfig
from retrieval.errors import EvaluationError
from retrieval.evaluation.pairs import basket_pairs, item_pairs, pairs_of, session_pairs
from retrieval.evaluation.protocols import choice_score, evaluate, rank_pairs
from retrieval.evaluation.sessions import sessions_from_graph
from retrieval.queries import Queries
from retrieval.ranking.embedding_ranker import EmbeddingRanker
from tests.oracles.session_tables import START, as_ids, baskets_of, sessions_of

KEYS = ("model", "slice", "metric", "k", "value", "low", "high", "n")


def value(report: list[dict], slice_name: str, metric: str, k: int) -> tuple[float | None, int]:
    row = next(row for row in report if (row["slice"], row["metric"], row["k"]) == (slice_name, metric, k))
    return row["value"], row["n"]


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.lists(st.integers(0, 64), min_size=1, max_size=6), min_size=1, max_size=8),
    st.sampled_from(["item", "session"]),
    st.booleans(),
)
def test_item_and_session_protocols_equal_their_definitions(world, catalogue, edges, lists, protocol, current) -> None:
    current = current and protocol == "session"
    sessions = sessions_of(as_ids(lists))
    pairs = pairs_of(protocol, sessions, catalogue.item_ids, catalogue.events, include_current=current)
    outcomes = defaultdict(list)
    for items in lists:
        for position in range(1, len(items)):
            a, b = items[position - 1], items[position]
            if a == b and not current:
                continue
            views = [row for row in (items[:position] if protocol == "session" else [a]) if row < 60][-10:]
            rank = 0
            if views and b < 60:
                score = world.slow_scores(catalogue, world.edge_rows(60), views)
                order = [row for row in np.argsort(-score, kind="stable") if current or row != a]
                rank = order.index(b) + 1 if b in order else 0
            events = catalogue.events[b] if b < 60 else 0
            for name, within in (("all", True), ("tail", 1 <= events <= 5), ("cold", events == 0)):
                if within:
                    outcomes[name].append(rank)
    assume(outcomes)
    ranker = EmbeddingRanker(catalogue, edges)
    report = evaluate("m", ranker, pairs, protocol=protocol, samples=20)
    assert all(tuple(row) == KEYS for row in report)
    for name in ("all", "tail", "cold"):
        ranks = outcomes[name]
        for k in (20, 100):
            expected = np.mean([0 < rank <= k for rank in ranks]) if ranks else None
            assert value(report, name, "HR", k) == (pytest.approx(expected), len(ranks))
        expected = np.mean([1 / rank if 0 < rank <= 20 else 0 for rank in ranks]) if ranks else None
        assert value(report, name, "MRR", 20) == (pytest.approx(expected), len(ranks))
    hits = np.mean([value(report, "all", "HR", k)[0] for k in (20, 100)])
    first = np.mean([*(value(report, "all", "HR", k)[0] for k in (20, 100)), value(report, "all", "MRR", 20)[0]])
    assert choice_score(ranker, pairs, protocol) == pytest.approx((hits, first))


@settings(deadline=None, max_examples=25)
@given(
    st.lists(
        st.lists(st.integers(0, 62), min_size=2, max_size=7).filter(lambda items: len(set(items)) > 1),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from([None, 20, 150]),
)
def test_the_basket_protocol_equals_its_definition(world, catalogue, edges, lists, n_ads) -> None:
    """With ads, candidates and targets are eligible at the basket's time. Other questions are skipped and counted."""
    rows = None if n_ads is None else world.random_ads(60, n_ads, n_ads)
    ads = None if rows is None else Ads.from_table(world.ads_table(rows), catalogue.row_of)
    baskets = baskets_of(as_ids(lists))
    pairs = basket_pairs(baskets, catalogue.item_ids, catalogue.events, ads=ads)
    per_basket, skipped, n_queries = [], 0, 0
    for hour, items in enumerate(lists):
        eligible = set(range(60))
        if rows is not None:
            winners = world.slow_winners(rows, set(catalogue.item_ids), START + timedelta(hours=hour), None)
            eligible = {catalogue.row_of[item] for item in winners}
        recalls = []
        for a in set(items):
            targets = {b for b in set(items) - {a} if ads is None or b in eligible}
            n_queries += 1
            if not targets:
                skipped += 1
                continue
            top: list[int] = []
            if a < 60:
                score = world.slow_scores(catalogue, world.edge_rows(60), [a])
                top = [row for row in np.argsort(-score, kind="stable") if row != a and row in eligible][:20]
            recalls.append(len(targets & set(top)) / min(20, len(targets)))
        if recalls:
            per_basket.append(np.mean(recalls))
    report = evaluate("m", EmbeddingRanker(catalogue, edges), pairs, protocol="basket", ads=ads, samples=20)
    name = "all" if ads is None else "ads"
    expected = np.mean(per_basket) if per_basket else None
    assert value(report, name, "recall", 20) == (pytest.approx(expected), len(per_basket))
    reported = [(row["value"], row["n"]) for row in report if (row["slice"], row["metric"]) == ("ads", "skipped")]
    assert reported == ([] if ads is None else [(skipped, n_queries)])


def test_ads_only_pairs_have_targets_eligible_at_their_time(world, catalogue, edges) -> None:
    generator = np.random.default_rng(0)
    lists = generator.integers(0, 62, (30, 4)).tolist()
    rows = world.random_ads(60, 150, 8)
    ads = Ads.from_table(world.ads_table(rows), catalogue.row_of)
    pairs = pairs_of("item", sessions_of(as_ids(lists)), catalogue.item_ids, catalogue.events, ads=ads)
    hits = []
    for hour, items in enumerate(lists):
        for minute, (a, b) in enumerate(pairwise(items), start=1):
            time = START + timedelta(hours=hour, minutes=minute)
            winners = world.slow_winners(rows, set(catalogue.item_ids), time, None)
            eligible = {catalogue.row_of[item] for item in winners}
            if a == b or b not in eligible:
                continue
            score = world.slow_scores(catalogue, world.edge_rows(60), [a]) if a < 60 else np.zeros(60)
            top = [row for row in np.argsort(-score, kind="stable") if row != a and row in eligible]
            hits.append(a < 60 and b in top[:20])
    report = evaluate("m", EmbeddingRanker(catalogue, edges), pairs, ads=ads, samples=20)
    assert value(report, "ads", "HR", 20) == (pytest.approx(np.mean(hits)), len(hits))
    assert {row["slice"] for row in report} == {"ads"}


def test_at_most_twenty_items_of_a_basket_are_queries_and_the_seed_chooses_them(catalogue) -> None:
    baskets = baskets_of(as_ids([list(range(45)), [1, 2]]))
    pairs = basket_pairs(baskets, catalogue.item_ids, catalogue.events)
    assert np.bincount(pairs.group).tolist() == [20 * 44, 2]
    repeated = basket_pairs(baskets, catalogue.item_ids, catalogue.events)
    reseeded = basket_pairs(baskets, catalogue.item_ids, catalogue.events, seed=1)
    assert pairs.queries.rows.tolist() == repeated.queries.rows.tolist() != reseeded.queries.rows.tolist()


def test_the_interval_holds_the_value_and_coverage_counts_items(catalogue, edges) -> None:
    lists = np.random.default_rng(4).integers(0, 60, (80, 3)).tolist()
    pairs = item_pairs(sessions_of(as_ids(lists)), catalogue.item_ids, catalogue.events)
    ranker = EmbeddingRanker(catalogue, edges)
    report = evaluate("m", ranker, pairs)
    row = next(row for row in report if row["metric"] == "HR" and row["slice"] == "all")
    assert row["low"] < row["value"] < row["high"]
    shown = ranker.rank(pairs.queries, 20).rows
    assert value(report, "all", "coverage", 20) == (len(set(shown.tolist())) / 60, len(pairs.queries))


def test_sessions_without_a_pair_and_an_unknown_protocol_are_errors(catalogue, edges) -> None:
    sessions = sessions_of(as_ids([[3], [4, 4]]))
    pairs = item_pairs(sessions, catalogue.item_ids, catalogue.events)
    with pytest.raises(EvaluationError, match="no pair"):
        evaluate("m", EmbeddingRanker(catalogue, edges), pairs)
    with pytest.raises(EvaluationError, match="item, session or basket"):
        pairs_of("cart", sessions, catalogue.item_ids, catalogue.events)


def test_sessions_of_the_graph_are_read_by_their_kind() -> None:
    rows = [
        {"session": 7, "kind": "browse", "items": ["a", "b"], "times": [START, START]},
        {"session": 8, "kind": "basket", "items": ["c", "d", "e"], "times": [START] * 3},
    ]
    graph = pa.Table.from_pylist(rows)
    assert sessions_from_graph(graph).item_ids.to_pylist() == ["a", "b"]
    basket = sessions_from_graph(graph, "basket")
    assert (basket.offsets.tolist(), basket.times[0]) == ([0, 3], int(START.timestamp() * 1e6))
    assert len(sessions_from_graph(graph.slice(0, 1), "basket")) == 0
    with pytest.raises(EvaluationError, match="timestamp has type string"):
        sessions_from_graph(pa.Table.from_pylist([rows[0] | {"times": ["today", "now"]}]))


def test_after_an_unknown_item_the_item_before_it_may_be_the_answer(catalogue, edges) -> None:
    pairs = session_pairs(sessions_of(as_ids([[1, 63, 1]])), catalogue.item_ids, catalogue.events)
    assert pairs.last_unknown is not None
    assert pairs.last_unknown.tolist() == [False, True]
    lists, rank = rank_pairs(EmbeddingRanker(catalogue, edges), pairs)
    assert rank[1] > 0
    assert [len(lists.of(query)[0]) for query in range(2)] == [59, 60]


def test_prefixes_without_a_known_item_miss_and_only_recent_items_count(catalogue, edges) -> None:
    lists = [[61, 5, 61, 7], [3] * 2 + [8]]
    pairs = session_pairs(sessions_of(as_ids(lists)), catalogue.item_ids, catalogue.events)
    assert pairs.query_known.tolist() == [False, True, True, True]
    assert pairs.findable.tolist() == [False, False, True, True]
    queries = Queries(np.array([9, 1, 2, 3]), np.array([0, 4]))
    config = RetrievalConfig(recent_items=2, long_tail=False)
    full, short = EmbeddingRanker(catalogue, edges, config), Queries(np.array([2, 3]), np.array([0, 2]))
    assert full.rank(queries, 9).rows.tolist() == full.rank(short, 9).rows.tolist()


def test_the_item_protocol_can_include_the_current_item() -> None:
    sessions = sessions_of([["a", "a", "b"]])
    ids, events = np.array(["a", "b"], dtype=object), np.array([1, 1])
    assert len(sessions.item_ids) == 3
    for current, targets in ((False, [1]), (True, [0, 1])):
        pairs = pairs_of("item", sessions, ids, events, include_current=current)
        assert (pairs.target.tolist(), pairs.include_current) == (targets, current)


def test_the_query_of_a_long_prefix_is_its_last_hundred_items() -> None:
    items = [f"{n:03d}" for n in range(130)]
    pairs = session_pairs(sessions_of([items]), np.array(items, dtype=object), np.ones(130, np.int64))
    assert np.diff(pairs.queries.offsets).max() == 100
    assert pairs.queries.part(slice(128, 129)).rows.tolist() == list(range(29, 129))
