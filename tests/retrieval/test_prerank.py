"""Counters and the pre-ranker against counting by hand, and an order that only counters know."""

import numpy as np
import pytest

from retrieval.errors import RetrievalError
from retrieval.prerank import Counter, PreRanker, fit

#              rows: 0  1  2  3   4
KIND = np.array([0, 0, 1, 1, -1], np.int32)
SELF = np.arange(5, dtype=np.int32)
VIEWS = np.array([0, 0, 0, 1, 2, 4])
OPENED = np.array([1, 1, 2, 2, 3, 0])


def test_counts_by_hand() -> None:
    counter = Counter.of_pairs("item > kind", SELF, KIND, VIEWS, OPENED)
    # After item 0: kind 0 twice, kind 1 once. In all: kind 0 three times, kind 1 three times.
    found = counter.log_iqp(0, np.array([0, 1, 2, 3, 4]), smoothing=2.0)
    assert np.exp(found[:4]) == pytest.approx([3 / 5, 3 / 5, 2 / 5, 2 / 5])
    assert np.isnan(found[4])
    assert np.isnan(counter.log_iqp(3, np.array([0, 1]), smoothing=2.0)).all()


def test_weights_count() -> None:
    counter = Counter.of_pairs("item > item", SELF, SELF, VIEWS[:3], OPENED[:3], np.array([1, 0.5, 0.5], np.float32))
    assert np.exp(counter.log_iqp(0, np.array([1, 2, 3]), 0.0)) == pytest.approx([0.75, 0.25, 0], abs=1e-6)


def test_a_random_log_equals_counting_in_dictionaries() -> None:
    generator = np.random.default_rng(0)
    views, opened = generator.integers(0, 30, (2, 500))
    query_of, item_of = generator.integers(-1, 6, 30).astype(np.int32), generator.integers(-1, 9, 30).astype(np.int32)
    counter = Counter.of_pairs("", query_of, item_of, views, opened)
    pairs = [(query_of[a], item_of[b]) for a, b in zip(views, opened, strict=True)]
    pairs = [pair for pair in pairs if min(pair) >= 0]
    for view in range(30):
        found = counter.log_iqp(view, np.arange(30), 3.0)
        mine = [b for a, b in pairs if a == query_of[view]]
        for row in range(30):
            if query_of[view] < 0 or item_of[row] < 0 or not mine:
                assert np.isnan(found[row])
                continue
            share = sum(b == item_of[row] for _, b in pairs) / len(pairs)
            assert np.exp(found[row]) == pytest.approx(
                (mine.count(item_of[row]) + 3 * share) / (len(mine) + 3), rel=1e-4
            )


def test_what_is_not_known_leaves_the_order_to_the_score() -> None:
    counter = Counter.of_pairs("item > kind", SELF, KIND, VIEWS, OPENED)
    ranker = PreRanker((counter,), np.array([1.0, 5.0], np.float32), np.zeros(1, np.float32), np.ones(1, np.float32))
    score = np.array([0.1, 0.3, 0.2], np.float32)
    assert ranker.scores(3, np.array([0, 1, 2]), score) == pytest.approx(score)


def test_it_learns_to_trust_what_tells_the_target() -> None:
    generator = np.random.default_rng(1)
    n = 50
    follows = generator.integers(0, n, n)
    views = np.repeat(np.arange(n), 40)
    opened = np.where(generator.random(len(views)) < 0.5, follows[views], generator.integers(0, n, len(views)))
    rows = np.arange(n, dtype=np.int32)
    counter = Counter.of_pairs("item > item", rows, rows, views[::2], opened[::2])
    later, target = views[1::2], opened[1::2]
    lists = [generator.permutation(n)[:20] for _ in later]
    lists = [np.unique(np.append(one, row)) for one, row in zip(lists, target, strict=True)]
    scores = [generator.standard_normal(len(one)).astype(np.float32) for one in lists]
    place = np.array([int(np.flatnonzero(one == row)[0]) for one, row in zip(lists, target, strict=True)])
    ranker = fit([counter], later, lists, scores, place)
    assert ranker.weight[1] > 5 * abs(ranker.weight[0])
    first = [one[np.argmax(ranker.scores(view, one, s))] for view, one, s in zip(later, lists, scores, strict=True)]
    assert np.mean(np.array(first) == target) > 0.4
    place[:] = -1
    with pytest.raises(RetrievalError, match="nothing to learn"):
        fit([counter], later, lists, scores, place)
