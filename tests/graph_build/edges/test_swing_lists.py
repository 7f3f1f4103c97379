"""Capped users and items, and packed lists, are the same as in plain Python."""

import itertools
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph_build.edges import swing_lists
from graph_build.edges.swing_lists import (
    Entries,
    cap_entries,
    cap_stream,
    pack_lists,
    unpack_lists,
    user_day_key,
    user_lists,
)
from tests.graph_build.conftest import entries_of, levels_of
from tests.oracles.swing import Log, capped

SEED = 17
entry = st.tuples(st.integers(-3, 3), st.integers(-6, 6), st.integers(0, 3), st.integers(0, 3)).filter(
    lambda e: e[2] or e[3]
)
logs = st.lists(entry, max_size=60)


@given(logs, st.sampled_from(["user", "item"]), st.integers(1, 4))
def test_a_cap_keeps_the_smallest_hashes_of_each_graph(log: Log, by: str, cap: int) -> None:
    entries, cut = cap_entries(entries_of(log), by, cap, SEED)
    assert levels_of(entries) == capped(log, by, cap, SEED)
    assert len(entries.user) == len(levels_of(entries))
    groups: dict[int, set[tuple[int, int]]] = defaultdict(set)
    for user, item, _, _ in log:
        groups[user if by == "user" else item].add((user, item))
    wide = {key: len(members) for key, members in groups.items() if len(members) > cap}
    assert dict(zip(cut.key.tolist(), cut.members.tolist(), strict=True)) == wide


@given(logs, st.sampled_from(["user", "item"]), st.integers(1, 4), st.integers(1, 9))
def test_a_stream_of_pieces_is_capped_like_all_its_entries_at_once(log: Log, by: str, cap: int, piece: int) -> None:
    pieces = [entries_of(log[start : start + piece]) for start in range(0, len(log), piece)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(swing_lists, "BUFFERED_ROWS", 7)
        entries, _ = cap_stream(pieces, by, cap, SEED)
    assert levels_of(entries) == capped(log, by, cap, SEED)


# (user, item, level, whether the fit graph has the entry, day)
daily_logs = st.lists(
    st.tuples(st.integers(-3, 3), st.integers(-6, 6), st.integers(1, 3), st.booleans(), st.integers(0, 3)), max_size=60
)


def key_of(user: int, day: int) -> int:
    return int(user_day_key(np.array([user << 16 | 5]), np.array([day]))[0])


@given(daily_logs, st.integers(1, 8))
def test_a_user_with_more_items_than_the_cap_is_split_by_day_in_each_graph_on_its_own(log: Any, cap: int) -> None:
    rows = [(user, item, level, level * fit, day) for user, item, level, fit, day in log]
    entries, cut = user_lists(
        entries_of([(key_of(user, day), *item_and_levels) for user, *item_and_levels, day in rows]), cap, SEED
    )
    expected: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0])
    items_of_lists: dict[int, set[int]] = defaultdict(set)
    for graph in (0, 1):
        of_graph = [(user, item, both[graph], day) for user, item, *both, day in rows if both[graph]]
        items = {user: {item for owner, item, _, _ in of_graph if owner == user} for user, *_ in of_graph}
        busy = {user for user in items if len(items[user]) > cap}
        listed = [(key_of(u, day) if u in busy else u << 16, i, level, level) for u, i, level, day in of_graph]
        for pair, levels in capped(listed, "user", cap, SEED).items():
            expected[pair][graph] = levels[graph]
        for key, item, _, _ in listed:
            items_of_lists[key].add(item)
    assert levels_of(entries) == {pair: tuple(levels) for pair, levels in expected.items()}
    assert dict(zip(cut.key.tolist(), cut.members.tolist(), strict=True)) == {
        key: len(items) for key, items in items_of_lists.items() if len(items) > cap
    }
    starts = np.flatnonzero(np.diff(entries.user, prepend=1)).tolist()  # no key is 1
    assert len(starts) == len(set(entries.user.tolist())), "the entries of a list are adjacent"


@settings(deadline=None)  # the first use of Arrow takes long
@given(logs, st.integers(1, 3))
def test_packed_lists_are_unpacked_complete_in_every_bucket_of_their_items(log: Log, buckets: int) -> None:
    entries, _ = cap_entries(entries_of(log), "user", 99, SEED)
    lists_of_users: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for user, item, code in zip(entries.user.tolist(), entries.item.tolist(), entries.code.tolist(), strict=True):
        lists_of_users[user].append((item, code))
    unpacked = {}
    for bucket, payload in pack_lists(entries, buckets):
        bucket_inside, lists, keys = unpack_lists([payload])
        assert bucket_inside == bucket
        unpacked[bucket] = sorted(
            list(zip(keys[lists.items[a:b]].tolist(), lists.levels[a:b].tolist(), strict=True))
            for a, b in itertools.pairwise(lists.indptr.tolist())
        )
    for bucket in range(buckets):
        expected = [
            items
            for items in lists_of_users.values()
            if len(items) > 1 and any(item % buckets == bucket for item, _ in items)
        ]
        assert unpacked.get(bucket, []) == sorted(expected)


def test_no_entries_are_capped_to_no_entries() -> None:
    none = np.zeros(0, np.int64)
    entries, cut = cap_entries(Entries(none, none, np.zeros(0, np.uint8)), "user", 1, SEED)
    assert (len(entries.user), len(cut.key)) == (0, 0)
