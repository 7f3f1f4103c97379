"""Counters equal counts by hand, and the re-ranker learns an order that only counters predict."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from retrieval.errors import IndexFolderError, RetrievalError
from retrieval.ranking.reranker import Context, Counter, Reranker, raw_features
from retrieval.ranking.reranker_fit import TrainingLists, fit

#              rows: 0  1  2  3   4
KIND = np.array([0, 0, 1, 1, -1], np.int32)
SELF = np.arange(5, dtype=np.int32)
VIEWS = np.array([0, 0, 0, 1, 2, 4])
OPENED = np.array([1, 1, 2, 2, 3, 0])
# Rows of query, normalised text, hash of that text.
GOLDEN_QUERIES = Path(__file__).parents[2] / "graph_build" / "ingest" / "golden_queries.json"


def after(*views: int, **key: str) -> Context:
    return Context.of(np.array(views, np.int64), 0.5, **key)


def log_iqp(counter: Counter, context: Context, rows: np.ndarray, smoothing: float) -> np.ndarray:
    return raw_features([counter], context, rows, smoothing)[:, 0]


def test_shares_equal_counts_by_hand() -> None:
    counter = Counter.of_pairs("item > kind", SELF, KIND, VIEWS, OPENED)
    # After item 0, kind 0 was opened twice and kind 1 once. In all, each kind was opened three times.
    values = log_iqp(counter, after(0), np.array([0, 1, 2, 3, 4]), smoothing=2.0)
    assert np.exp(values[:4]) == pytest.approx([3 / 5, 3 / 5, 2 / 5, 2 / 5])
    assert np.isnan(values[4])
    assert np.isnan(log_iqp(counter, after(3), np.array([0, 1]), smoothing=2.0)).all()


def test_pairs_count_by_their_weights() -> None:
    counter = Counter.of_pairs("item > item", SELF, SELF, VIEWS[:3], OPENED[:3], np.array([1, 0.5, 0.5], np.float32))
    assert np.exp(log_iqp(counter, after(0), np.array([1, 2, 3]), 0.0)) == pytest.approx([0.75, 0.25, 0], abs=1e-6)


def test_a_random_log_equals_counting_in_dictionaries() -> None:
    generator = np.random.default_rng(0)
    views, opened = generator.integers(0, 30, (2, 500))
    query_of, item_of = generator.integers(-1, 6, 30).astype(np.int32), generator.integers(-1, 9, 30).astype(np.int32)
    counter = Counter.of_pairs("", query_of, item_of, views, opened)
    pairs = [(query_of[a], item_of[b]) for a, b in zip(views, opened, strict=True)]
    pairs = [pair for pair in pairs if min(pair) >= 0]
    for view in range(30):
        values = log_iqp(counter, after(view), np.arange(30), 3.0)
        opened_after = [b for a, b in pairs if a == query_of[view]]
        for row in range(30):
            if query_of[view] < 0 or item_of[row] < 0 or not opened_after:
                assert np.isnan(values[row])
                continue
            share = sum(b == item_of[row] for _, b in pairs) / len(pairs)
            assert np.exp(values[row]) == pytest.approx(
                (opened_after.count(item_of[row]) + 3 * share) / (len(opened_after) + 3), rel=1e-4
            )


def test_the_retrieval_score_decides_where_counts_are_missing() -> None:
    counter = Counter.of_pairs("item > kind", SELF, KIND, VIEWS, OPENED)
    ranker = Reranker((counter,), np.array([1.0, 5.0], np.float32), np.zeros(1, np.float32), np.ones(1, np.float32))
    score = np.array([0.1, 0.3, 0.2], np.float32)
    assert ranker.scores(after(3), np.array([0, 1, 2]), score) == pytest.approx(score)


def test_fitting_gives_weight_to_the_counter_that_predicts_the_target() -> None:
    generator = np.random.default_rng(1)
    n = 50
    follows = generator.integers(0, n, n)
    views = np.repeat(np.arange(n), 40)
    opened = np.where(generator.random(len(views)) < 0.5, follows[views], generator.integers(0, n, len(views)))
    rows = np.arange(n, dtype=np.int32)
    counter = Counter.of_pairs("item > item", rows, rows, views[::2], opened[::2])
    later, target = views[1::2], opened[1::2]
    lists = [generator.permutation(n)[:20] for _ in later]
    lists = [np.unique(np.append(line, row)) for line, row in zip(lists, target, strict=True)]
    scores = [generator.standard_normal(len(line)).astype(np.float32) for line in lists]
    position = np.array([int(np.flatnonzero(line == row)[0]) for line, row in zip(lists, target, strict=True)])
    contexts = [after(int(view)) for view in later]
    ranker = fit([counter], TrainingLists(contexts, lists, scores, position))
    assert ranker.weight[1] > 5 * abs(ranker.weight[0])
    best_rows = [
        line[np.argmax(ranker.scores(view, line, score))]
        for view, line, score in zip(contexts, lists, scores, strict=True)
    ]
    assert np.mean(np.array(best_rows) == target) > 0.4
    position[:] = -1
    with pytest.raises(RetrievalError, match="nothing to fit"):
        fit([counter], TrainingLists(contexts, lists, scores, position))


def test_viewed_items_count_together_by_recency() -> None:
    counter = Counter.of_pairs("item>item", SELF, SELF, VIEWS, OPENED)
    rows = np.arange(5)
    first, second = (np.exp(log_iqp(counter, after(view), rows, 1.0)) for view in (0, 1))
    both = np.exp(log_iqp(counter, after(0, 1), rows, 1.0))
    assert both == pytest.approx(first / 3 + second * 2 / 3)
    # Nothing was opened after item 3, so only the other item counts.
    assert np.exp(log_iqp(counter, after(0, 3), rows, 1.0)) == pytest.approx(first)


def test_queries_are_hashed_as_in_the_golden_file() -> None:
    """The graph build is tested with the same file; its counters name a query by this hash."""
    rows = json.loads(GOLDEN_QUERIES.read_text(encoding="utf-8"))
    assert len(rows) > 5
    for query, _, expected in rows:
        assert after(0, query=query).query == (None if expected is None else str(expected)), query


def test_queries_and_countries_have_the_keys_of_the_graph_build() -> None:
    from graph_build.sessions.assemble import hash_queries

    (hashed,), _ = hash_queries(pa.array(["red shoes"]))
    keys = np.array([str(hashed)])
    zeros = np.zeros(3, np.int32)
    counters = {"query": Counter.of_entities("query>item", zeros, SELF[:3], np.ones(3, np.float32), SELF, keys=keys)}
    counters["country"] = Counter.of_entities(
        "country>item", zeros[:1], SELF[3:4], np.ones(1, np.float32), SELF, keys=np.array(["DE"])
    )
    rows = np.arange(5)
    iqp = np.exp(log_iqp(counters["query"], after(4, query="  RED\tshoes "), rows, 0.0))
    assert iqp == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0, 0], abs=1e-6)
    assert np.exp(log_iqp(counters["country"], after(4, country="de"), rows, 0.0))[3] == pytest.approx(1)
    for counter in counters.values():
        for context in (after(4), after(4, query="blue", country="FR"), after(4, query=" ", country="")):
            assert np.isnan(log_iqp(counter, context, rows, 1.0)).all()


def test_items_below_the_depth_stay_behind_the_reordered_ones() -> None:
    depth = 200
    n = depth + 3
    generator = np.random.default_rng(0)
    rows = np.arange(n, dtype=np.int32)
    counter = Counter.of_pairs("item>item", rows, rows, np.zeros(900, np.int64), generator.integers(0, n, 900))
    ranker = Reranker((counter,), np.array([1.0, 2.0], np.float32), np.zeros(1, np.float32), np.ones(1, np.float32))
    retrieved, score = generator.permutation(n), np.sort(generator.random(n).astype(np.float32))[::-1]
    reordered, scores = ranker.ordered(after(0), retrieved, score)
    assert set(reordered[:depth]) == set(retrieved[:depth])
    assert reordered[:depth].tolist() != retrieved[:depth].tolist()
    assert reordered[depth:].tolist() == retrieved[depth:].tolist()
    assert np.all(np.diff(scores) <= 0)
    assert scores[:depth] == pytest.approx(np.sort(ranker.scores(after(0), retrieved[:depth], score[:depth]))[::-1])
    few, _ = ranker.ordered(after(0), retrieved[:2], score[:2])
    assert set(few) == set(retrieved[:2])


def test_a_reranker_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    counters = (
        Counter.of_pairs("item>category", SELF, KIND, VIEWS, OPENED),
        Counter.of_entities(
            "country>item", SELF[:2], SELF[:2], np.ones(2, np.float32), SELF, keys=np.array(["DE", "FR"])
        ),
    )
    half = np.full(2, 0.5, np.float32)
    ranker = Reranker(counters, np.array([1, 2, 3], np.float32), half, half, 7.0, 9)
    ranker.write(tmp_path)
    loaded = Reranker.read(tmp_path)
    rows, score = np.arange(5), np.linspace(1, 0, 5, dtype=np.float32)
    context = after(0, 1, country="fr")
    assert np.array_equal(loaded.scores(context, rows, score), ranker.scores(context, rows, score))
    assert (loaded.smoothing, loaded.depth) == (7.0, 9)
    assert [counter.name for counter in loaded.counters] == ["item>category", "country>item"]
    (tmp_path / "prerank.npz").write_bytes(b"not a zip")
    with pytest.raises(IndexFolderError, match=r"prerank\.npz: not readable"):
        Reranker.read(tmp_path)
