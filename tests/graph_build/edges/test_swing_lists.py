"""The caps on users and items, and the packed lists, against slow twins; then Swing in Spark against brute force."""

import itertools
import random
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph_build.config import SwingConfig
from graph_build.edges import swing, swing_lists
from graph_build.edges.swing_lists import Entries, bounded, bounded_stream, chance, of_day, packed, unpacked, user_lists
from tests.graph_build.edges.test_swing_kernel import brute_force

Found = dict[tuple[int, int], tuple[int, int]]  # (user, item) → its level in the whole graph and in the fit graph

Log = list[tuple[int, int, int, int]]  # user, item, level in the whole graph, level in the fit graph

entry = st.tuples(st.integers(-3, 3), st.integers(-6, 6), st.integers(0, 3), st.integers(0, 3)).filter(
    lambda e: e[2] or e[3]
)
log = st.lists(entry, max_size=60)


def entries(rows: Log) -> Entries:
    code = [full | fit << 4 for _, _, full, fit in rows]
    user, item = (np.array([row[n] for row in rows], np.int64) for n in (0, 1))
    return Entries(user, item, np.array(code, np.uint8))


def as_dict(found: Entries) -> Found:
    codes = zip(found.user.tolist(), found.item.tolist(), found.code.tolist(), strict=True)
    return {(user, item): (code & 15, code >> 4) for user, item, code in codes}


def slow(rows: Log, by: str, cap: int, seed: int) -> Found:
    kept: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0])
    for graph in (0, 1):
        groups: dict[int, dict[tuple[int, int], int]] = defaultdict(dict)
        for user, item, *levels in rows:
            if levels[graph]:
                mine = groups[user if by == "user" else item]
                mine[user, item] = max(levels[graph], mine.get((user, item), 0))
        for mine in groups.values():
            for pair in sorted(mine, key=lambda p: chance(np.array([p[0]]), np.array([p[1]]), seed)[0])[:cap]:
                kept[pair][graph] = mine[pair]
    return {pair: (levels[0], levels[1]) for pair, levels in kept.items()}


@given(log, st.sampled_from(["user", "item"]), st.integers(1, 4))
def test_caps_keep_the_least_chances_of_each_graph_alone(rows: Any, by: str, cap: int) -> None:
    found, cut = bounded(entries(rows), by, cap, 17)
    assert as_dict(found) == slow(rows, by, cap, 17)
    assert len(found.user) == len(as_dict(found))
    groups: dict[int, set[tuple[int, int]]] = defaultdict(set)
    for user, item, _, _ in rows:
        groups[user if by == "user" else item].add((user, item))
    wide = {key: len(members) for key, members in groups.items() if len(members) > cap}
    assert dict(zip(cut.key.tolist(), cut.members.tolist(), strict=True)) == wide


@given(log, st.sampled_from(["user", "item"]), st.integers(1, 4), st.integers(1, 9))
def test_caps_of_a_stream_are_those_of_the_whole(rows: Any, by: str, cap: int, piece: int) -> None:
    limit, swing_lists.HELD_ROWS = swing_lists.HELD_ROWS, 7
    try:
        pieces = [entries(rows[start : start + piece]) for start in range(0, len(rows), piece)]
        found, _ = bounded_stream(pieces, by, cap, 17)
    finally:
        swing_lists.HELD_ROWS = limit
    assert as_dict(found) == slow(rows, by, cap, 17)


# user, item, level, whether the hold-out leaves it, day
days = st.lists(
    st.tuples(st.integers(-3, 3), st.integers(-6, 6), st.integers(1, 3), st.booleans(), st.integers(0, 3)), max_size=60
)


@given(days, st.integers(1, 8))
def test_a_user_with_more_items_than_the_cap_counts_day_by_day(days: Any, cap: int) -> None:
    """In each graph as if the other did not exist."""
    rows = [(user, item, level, level * fit, day) for user, item, level, fit, day in days]

    def key(user: int, day: int) -> int:
        return int(of_day(np.array([user << 16 | 5]), np.array([day]))[0])

    found, cut = user_lists(entries([(key(user, day), *rest) for user, *rest, day in rows]), cap, 17)
    expected: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0])
    lists_of_days: dict[int, set[int]] = defaultdict(set)
    for graph in (0, 1):
        mine = [(user, item, both[graph], day) for user, item, *both, day in rows if both[graph]]
        items = {user: {item for who, item, _, _ in mine if who == user} for user, *_ in mine}
        daily = {user for user in items if len(items[user]) > cap}
        as_lists = [(key(u, day) if u in daily else u << 16, i, level, level) for u, i, level, day in mine]
        for pair, levels in slow(as_lists, "user", cap, 17).items():
            expected[pair][graph] = levels[graph]
        for who, item, _, _ in as_lists:
            lists_of_days[who].add(item)
    assert as_dict(found) == {pair: tuple(levels) for pair, levels in expected.items()}
    assert dict(zip(cut.key.tolist(), cut.members.tolist(), strict=True)) == {
        who: len(items) for who, items in lists_of_days.items() if len(items) > cap
    }
    starts = np.flatnonzero(np.diff(found.user, prepend=1)).tolist()  # no key is 1
    assert len(starts) == len(set(found.user.tolist()))


@settings(deadline=None)  # Arrow takes its time at first
@given(log, st.integers(1, 3))
def test_packed_lists_come_back_whole_in_every_bucket_of_their_items(rows: Any, buckets: int) -> None:
    found, _ = bounded(entries(rows), "user", 99, 17)
    mine: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for user, item, code in zip(found.user.tolist(), found.item.tolist(), found.code.tolist(), strict=True):
        mine[user].append((item, code))
    seen = {}
    for bucket, payload in packed(found, buckets):
        told, lists, known = unpacked([payload])
        assert told == bucket
        bounds = lists.indptr.tolist()
        seen[bucket] = sorted(
            list(zip(known[lists.items[a:b]].tolist(), lists.levels[a:b].tolist(), strict=True))
            for a, b in itertools.pairwise(bounds)
        )
    for bucket in range(buckets):
        expected = [one for one in mine.values() if len(one) > 1 and any(item % buckets == bucket for item, _ in one)]
        assert seen.get(bucket, []) == sorted(expected)


@pytest.mark.parametrize("buckets", [1, 3])
def test_swing_in_spark_equals_brute_force_in_both_graphs(spark: Any, buckets: int) -> None:
    rng = random.Random(buckets)
    config = SwingConfig(max_item_users=9, max_user_items=4)
    rows = []
    for _ in range(400):
        level = rng.randrange(1, 4)
        user = int(of_day(np.array([rng.randrange(40) << 40]), np.array([rng.randrange(2)]))[0])
        rows.append((user, rng.randrange(15), level, level if rng.random() < 0.8 else 0))
    kept = [(*pair, *levels) for pair, levels in slow(rows, "item", 9, config.seed).items()]
    kept_by_user = as_dict(user_lists(entries(kept), 4, config.seed)[0])
    assert len({user & 65535 for user, _ in kept_by_user}) == 2
    expected = {}
    for graph in (0, 1):
        users: dict[int, dict[int, int]] = defaultdict(dict)
        for (user, item), levels in kept_by_user.items():
            if levels[graph]:
                users[user][item] = levels[graph]
        expected[graph] = brute_force([user for user in users.values() if len(user) > 1], 1.0, 0.0, 0.5)
    given = entries(rows)
    columns = [given.user.tolist(), given.item.tolist(), given.code.tolist()]
    frame = spark.createDataFrame(list(zip(*columns, strict=True)), "user bigint, item bigint, code tinyint")
    scored = swing.score(swing.packed(frame, config, 2, buckets), config, buckets).collect()
    for graph, name in enumerate(("full_up", "fit_down")):
        got = {(row["low"], row["high"]): row[name] / swing.fixed_point(config) for row in scored if row[name]}
        assert got == pytest.approx({pair: s for pair, s in expected[graph].items() if pair[0] < pair[1]}, abs=1e-9)
