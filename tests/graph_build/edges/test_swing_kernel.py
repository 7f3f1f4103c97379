import itertools
import math
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph_build.edges.swing_kernel import UserLists, counted, swing_top_k
from graph_build.spark.jit import jit

Baskets = list[dict[int, int]]  # the strengths are those of the same levels


STRENGTHS = np.array([0.0, 1.0, 2.0, 3.0])
SCALE = 1 << 40


def run(users: Baskets, n: int, *, top_k: int = 1000, anchors: list[int] | None = None, **settings: float) -> dict:
    lists = [sorted(user) for user in users]
    indptr = np.concatenate([[0], np.cumsum([len(items) for items in lists])]).astype(np.int64)
    items = np.array([item for user in lists for item in user], np.int32)
    levels = np.array([user[item] for user in users for item in sorted(user)], np.uint8)
    chosen = np.zeros(n, np.bool_)
    chosen[list(range(n)) if anchors is None else anchors] = True
    options = {"alpha": 1.0, "user_offset": 0.0, "user_exponent": 0.5, "scale": SCALE} | settings
    users_items = UserLists(indptr, items, levels)
    src, dst, score = swing_top_k(users_items, STRENGTHS, chosen, top_k=top_k, **options)
    return {(int(i), int(j)): s / SCALE for i, j, s in zip(src, dst, score, strict=True)}


def brute_force(users: Baskets, alpha: float, offset: float, exponent: float) -> dict[tuple[int, int], float]:
    scores: dict[tuple[int, int], float] = defaultdict(float)
    for u, v in itertools.combinations(users, 2):
        common = set(u) & set(v)
        w = (offset + len(u)) ** -exponent * (offset + len(v)) ** -exponent
        for i, j in itertools.permutations(common, 2):
            scores[i, j] += w * math.sqrt(u[i] * u[j]) * math.sqrt(v[i] * v[j]) / (alpha + len(common))
    return dict(scores)


def test_flink_golden_vectors() -> None:
    # users 0..3 of flink-ml's own test; its user 4 has more items than the 3 allowed there, and drops out
    users: Baskets = [{10: 1, 11: 1, 12: 1}, {13: 1, 12: 1}, {10: 1, 11: 1, 12: 1}, {13: 1, 12: 1}]
    scores = run(users, 14, alpha=0.0, user_offset=15.0, user_exponent=0.3)
    assert scores[10, 11] == pytest.approx(0.058845768947156235, abs=1e-9)
    assert scores[10, 12] == pytest.approx(0.058845768947156235, abs=1e-9)
    assert scores[12, 13] == pytest.approx(0.09134833828228624, abs=1e-9)


user = st.dictionaries(st.integers(0, 7), st.sampled_from([1, 2, 3]), min_size=2, max_size=6)


@given(st.lists(user, max_size=12), st.sampled_from([0.0, 1.0, 5.0]), st.sampled_from([0.0, 0.3, 0.5]))
def test_kernel_equals_brute_force(users: Baskets, alpha: float, exponent: float) -> None:
    expected = brute_force(users, alpha, 2.0, exponent)
    got = run(users, 8, alpha=alpha, user_offset=2.0, user_exponent=exponent)
    assert got.keys() == expected.keys()
    assert got == pytest.approx(expected, abs=1e-9)


@given(st.lists(user, max_size=12), st.integers(1, 3), st.randoms())
def test_top_k_is_the_head_of_all_with_ties_to_the_smaller_item_in_any_user_order(
    users: Baskets, top_k: int, random: object
) -> None:
    everything = run(users, 8)
    random.shuffle(users)  # type: ignore[attr-defined]
    got = run(users, 8, top_k=top_k)
    for anchor in range(8):
        mine = [pair for pair in everything if pair[0] == anchor]
        best = sorted(mine, key=lambda pair: (-everything[pair], pair[1]))[:top_k]
        assert [pair for pair in got if pair[0] == anchor] == best
    assert all(got[pair] == everything[pair] for pair in got)


def test_only_anchors_are_scored() -> None:
    users: Baskets = [{0: 1, 1: 1, 2: 1}, {0: 1, 1: 1, 2: 1}]
    assert set(run(users, 3, anchors=[1])) == {(1, 0), (1, 2)}


def test_users_who_share_one_item_alone_say_nothing() -> None:
    assert run([{0: 1, 1: 1}, {0: 1, 2: 1}], 3) == {}


def test_entries_of_level_zero_and_users_left_with_too_few_drop_out() -> None:
    lists = UserLists(
        np.array([0, 3, 5, 7]), np.array([1, 4, 6, 1, 2, 4, 6], np.int32), np.array([1, 0, 2, 1, 0, 3, 1], np.uint8)
    )
    kept = counted(lists, 2)
    assert kept.indptr.tolist() == [0, 2, 4]
    assert kept.items.tolist() == [1, 6, 4, 6]
    assert kept.levels.tolist() == [1, 2, 3, 1]


def test_a_host_with_no_place_for_compiled_code_compiles_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def njit(function: Any = None, *, cache: bool = False) -> Any:
        def no_locator(_: Any) -> Any:
            raise RuntimeError("cannot cache function: no locator available")

        return no_locator if cache else function

    monkeypatch.setattr("numba.njit", njit)
    assert jit(len) is len
