"""Paired differences equal loops over sessions; a slow bootstrap and a simulation check their intervals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.evaluation.paired import LEAST_GROUPS, differences
from retrieval.evaluation.pairs import Pairs, pairs_of
from retrieval.queries import Queries
from tests.oracles.session_tables import as_ids, baskets_of, sessions_of


def pairs_with(group: list[int], question: list[int] | None = None) -> Pairs:
    """Return pairs whose groups and questions matter, and nothing else."""
    n = len(group)
    zeros, known = np.zeros(n, np.int64), np.ones(n, bool)
    return Pairs(
        queries=Queries.single(np.zeros(1, np.int64)),
        query=zeros,
        target=zeros,
        query_known=known,
        target_known=known,
        group=np.array(group, np.int64),
        question=np.arange(n) if question is None else np.array(question, np.int64),
        stretch=zeros,
        events=zeros,
        n_items=1,
    )


def slow_value(metric: str, k: int, ranks: list[int], pairs: Pairs, within: list[bool]) -> dict[int, list[float]]:
    """Return session → the values of its answers, or basket → one value, the mean recall of its questions."""
    values: dict[int, list[float]] = {}
    if metric == "recall":
        of_question: dict[tuple[int, int], list[bool]] = {}
        for n, rank in enumerate(ranks):
            if within[n]:
                of_question.setdefault((int(pairs.group[n]), int(pairs.question[n])), []).append(0 < rank <= k)
        for (group, _), found in of_question.items():
            values.setdefault(group, []).append(sum(found) / min(k, len(found)))
        return {group: [sum(recalls) / len(recalls)] for group, recalls in values.items()}
    for n, rank in enumerate(ranks):
        if within[n]:
            hit = 0 < rank <= k
            values.setdefault(int(pairs.group[n]), []).append(hit if metric == "HR" else hit / max(rank, 1))
    return values


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 130), st.integers(0, 130), st.booleans()), min_size=1, max_size=40
    ),
    st.booleans(),
)
def test_differences_equal_a_loop_over_the_sessions(answers: list[tuple[int, int, int, bool]], baskets: bool) -> None:
    answers.sort()
    group, first, second, tail = (list(column) for column in zip(*answers, strict=True))
    question = [number * 2 + n % 2 for n, number in enumerate(group)] if baskets else None
    pairs = pairs_with(group, question)
    slices = {"all": np.ones(len(group), bool), "tail": np.array(tail)}
    rows = differences(np.array(first), np.array(second), pairs, slices, "basket" if baskets else "item", samples=5)
    assert [(row["metric"], row["k"]) for row in rows[: len(rows) // 2]] == (
        [("recall", 20), ("recall", 100)] if baskets else [("HR", 20), ("HR", 100), ("MRR", 20)]
    )
    for row in rows:
        within = slices[row["slice"]].tolist()
        values = [slow_value(row["metric"], row["k"], ranks, pairs, within) for ranks in (first, second)]
        flat = [[value for of_group in each.values() for value in of_group] for each in values]
        assert (row["n"], row["groups"]) == (len(flat[0]), len(values[0]))
        if not flat[0]:
            assert row["a"] is row["b"] is row["difference"] is None
            continue
        a, b = (sum(each) / len(each) for each in flat)
        assert (row["a"], row["b"]) == (pytest.approx(a), pytest.approx(b))
        assert row["difference"] == pytest.approx(b - a)


def drawn(seed: int, groups: int = 40) -> tuple[Pairs, np.ndarray, np.ndarray]:
    """Return sessions of one to five answers, and the ranks of two rankers, of which the second finds some more."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), rng.integers(1, 6, groups))
    easy = rng.random(groups)[group]
    first = np.where(rng.random(len(group)) < 0.7 * easy, 7, 0)
    second = np.where((first > 0) & (rng.random(len(group)) < 0.9) | (rng.random(len(group)) < 0.2), 7, 0)
    return pairs_with(group.tolist()), first, second


def test_the_interval_is_that_of_a_slow_bootstrap_over_sessions() -> None:
    pairs, first, second = drawn(1)
    row = differences(first, second, pairs, {"all": np.ones(len(pairs), bool)}, samples=200)[1]
    sessions = [np.flatnonzero(pairs.group == group) for group in range(40)]
    means = []
    for draw in np.random.default_rng(0).integers(0, 40, (200, 40)):
        chosen = np.concatenate([sessions[session] for session in draw])
        means.append((second[chosen] > 0).mean() - (first[chosen] > 0).mean())
    assert [row["low"], row["high"]] == pytest.approx(np.quantile(means, [0.025, 0.975]))


def test_a_difference_is_known_better_than_the_values_and_turns_its_sign_with_the_order() -> None:
    pairs, first, second = drawn(2, groups=200)
    every = {"all": np.ones(len(pairs), bool)}
    row, turned = differences(first, second, pairs, every)[0], differences(second, first, pairs, every)[0]
    assert (turned["difference"], turned["low"], turned["high"]) == pytest.approx(
        (-row["difference"], -row["high"], -row["low"])
    )
    nothing = np.zeros_like(first)
    alone = differences(nothing, first, pairs, every)[0]
    assert row["high"] - row["low"] < 0.8 * (alone["high"] - alone["low"])
    same = differences(first, first, pairs, every)[0]
    assert (same["difference"], same["low"], same["high"]) == (0, 0, 0)


def test_about_every_twentieth_interval_misses_the_truth() -> None:
    worlds = [drawn(seed) for seed in range(300)]
    truth = np.mean([(second > 0).mean() - (first > 0).mean() for _, first, second in (drawn(0, 20_000),)])
    held = 0
    for pairs, first, second in worlds:
        row = differences(first, second, pairs, {"all": np.ones(len(pairs), bool)}, samples=200)[0]
        held += row["low"] <= truth <= row["high"]
    assert 0.9 <= held / len(worlds) <= 0.99


def test_few_sessions_have_no_interval() -> None:
    group = list(range(LEAST_GROUPS))
    pairs, ranks = pairs_with(group), np.ones(len(group), np.int64)
    slices = {"all": np.ones(len(group), bool), "tail": np.array(group) > 0, "cold": np.zeros(len(group), bool)}
    rows = differences(np.zeros_like(ranks), ranks, pairs, slices)
    intervals = {row["slice"]: (row["low"], row["high"]) for row in rows if (row["metric"], row["k"]) == ("HR", 20)}
    assert intervals == {"all": (1.0, 1.0), "tail": (None, None), "cold": (None, None)}
    assert {row["groups"] for row in rows} == {LEAST_GROUPS, LEAST_GROUPS - 1, 0}


@pytest.mark.parametrize("protocol", ["item", "session", "basket"])
def test_two_catalogues_get_the_same_questions_in_the_same_order(protocol: str) -> None:
    rng = np.random.default_rng(0)
    lists = [rng.integers(0, 30, rng.integers(2, 9)).tolist() for _ in range(20)]
    sessions = (baskets_of if protocol == "basket" else sessions_of)(as_ids(lists))
    known = np.array(sorted({*sessions.item_ids.to_pylist()}), dtype=object)
    catalogues = [known, known[::3], np.array([*known, "zzz"], dtype=object)]
    pairs = [pairs_of(protocol, sessions, ids, np.ones(len(ids), np.int64)) for ids in catalogues]
    for other in pairs[1:]:
        assert other.group.tolist() == pairs[0].group.tolist()
        assert other.question.tolist() == pairs[0].question.tolist()
