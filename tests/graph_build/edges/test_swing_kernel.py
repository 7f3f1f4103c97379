"""The Swing kernel gives the scores that another project publishes, and those of the formula in plain Python."""

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph_build.arrays import offsets_from_lengths
from graph_build.edges.swing_kernel import UserLists, drop_uncounted, swing_top_k
from graph_build.spark.jit import jit
from tests.oracles.swing import Lists, swing_scores

STRENGTHS = np.array([0.0, 1.0, 2.0, 3.0])
SCALE = 1 << 40


def scores_of(
    users: Lists, n: int, *, top_k: int = 1000, anchors: list[int] | None = None, **settings: float
) -> dict[tuple[int, int], float]:
    """Run the kernel on lists of items with numbers below n; return the score of each (anchor, partner)."""
    indptr = offsets_from_lengths([len(user) for user in users])
    items = np.array([item for user in users for item in sorted(user)], np.int32)
    levels = np.array([user[item] for user in users for item in sorted(user)], np.uint8)
    is_anchor = np.zeros(n, np.bool_)
    is_anchor[list(range(n)) if anchors is None else anchors] = True
    options: dict[str, Any] = {"alpha": 1.0, "user_offset": 0.0, "user_exponent": 0.5, "scale": SCALE} | settings
    lists = UserLists(indptr, items, levels)
    anchor, partner, score = swing_top_k(lists, STRENGTHS, is_anchor, top_k=top_k, **options)
    return {(int(i), int(j)): s / SCALE for i, j, s in zip(anchor, partner, score, strict=True)}


def test_scores_equal_those_of_flink() -> None:
    # Users 0 to 3 of the test in flink-ml. That test drops its user 4, who has more than 3 items.
    users: Lists = [{10: 1, 11: 1, 12: 1}, {13: 1, 12: 1}, {10: 1, 11: 1, 12: 1}, {13: 1, 12: 1}]
    scores = scores_of(users, 14, alpha=0.0, user_offset=15.0, user_exponent=0.3)
    assert scores[10, 11] == pytest.approx(0.058845768947156235, abs=1e-9)
    assert scores[10, 12] == pytest.approx(0.058845768947156235, abs=1e-9)
    assert scores[12, 13] == pytest.approx(0.09134833828228624, abs=1e-9)


user_lists = st.lists(
    st.dictionaries(st.integers(0, 7), st.sampled_from([1, 2, 3]), min_size=2, max_size=6), max_size=12
)


@given(user_lists, st.sampled_from([0.0, 1.0, 5.0]), st.sampled_from([0.0, 0.3, 0.5]))
def test_scores_equal_the_formula_in_plain_python(users: Lists, alpha: float, exponent: float) -> None:
    expected = swing_scores(users, alpha, 2.0, exponent)
    scores = scores_of(users, 8, alpha=alpha, user_offset=2.0, user_exponent=exponent)
    assert scores.keys() == expected.keys()
    assert scores == pytest.approx(expected, abs=1e-9)


@given(user_lists, st.integers(1, 3), st.randoms())
def test_top_k_is_the_best_of_all_scores_with_ties_to_the_smaller_item_in_any_order_of_users(
    users: Lists, top_k: int, rng: random.Random
) -> None:
    scores = scores_of(users, 8)
    rng.shuffle(users)
    top = scores_of(users, 8, top_k=top_k)
    for anchor in range(8):
        of_anchor = [pair for pair in scores if pair[0] == anchor]
        best = sorted(of_anchor, key=lambda pair: (-scores[pair], pair[1]))[:top_k]
        assert [pair for pair in top if pair[0] == anchor] == best
    assert all(top[pair] == scores[pair] for pair in top)


def test_only_anchors_are_scored() -> None:
    users: Lists = [{0: 1, 1: 1, 2: 1}, {0: 1, 1: 1, 2: 1}]
    assert set(scores_of(users, 3, anchors=[1])) == {(1, 0), (1, 2)}


def test_users_who_share_a_single_item_give_no_score() -> None:
    assert scores_of([{0: 1, 1: 1}, {0: 1, 2: 1}], 3) == {}


def test_entries_of_level_zero_are_dropped_and_then_users_with_too_few_entries() -> None:
    lists = UserLists(
        np.array([0, 3, 5, 7]), np.array([1, 4, 6, 1, 2, 4, 6], np.int32), np.array([1, 0, 2, 1, 0, 3, 1], np.uint8)
    )
    counted = drop_uncounted(lists, 2)
    assert counted.indptr.tolist() == [0, 2, 4]
    assert counted.items.tolist() == [1, 6, 4, 6]
    assert counted.levels.tolist() == [1, 2, 3, 1]


def test_code_is_compiled_in_memory_where_no_cache_folder_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def njit(function: Any = None, *, cache: bool = False) -> Any:
        def no_locator(_: Any) -> Any:
            raise RuntimeError("cannot cache function: no locator available")

        return no_locator if cache else function

    monkeypatch.setattr("numba.njit", njit)
    assert jit(len) is len
