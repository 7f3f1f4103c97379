"""The item lists of users for Swing: capped, and packed into the form in which they travel to the buckets.

An entry (user, item) carries a code of one byte: its level in the full graph in the low four bits, and its level in the
fit graph in the high four. The level is the position of the behaviour's weight (`swing.strengths`); level 0 means that
the entry is not in that graph. The module needs only numpy and Arrow, so that it runs in any Spark worker.

A user with more items than the cap counts day by day: the items that a household bought on one day belong together,
while a hundred items chosen by chance from a year do not.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from graph_build.arrays import Flags, Ints, offsets_from_lengths, split_mix64, starts_of_runs
from graph_build.edges.swing_kernel import UserLists
from graph_build.graphs import GRAPHS

Codes = NDArray[np.uint8]

# The low bits of a user's key, which hold the day.
DAY_BITS = 16
UNBOUNDED = 2**63 - 1
# Rows that are buffered before they are capped again: a few hundred MB in a Python worker.
BUFFERED_ROWS = 4_000_000


class Entries(NamedTuple):
    """User-item entries: user (E,) int64, item (E,) int64, code (E,) uint8."""

    user: Ints
    item: Ints
    code: Codes


class CutGroups(NamedTuple):
    """The groups that a cap cut: key (G,) int64, and the number of members before the cut, (G,) int64."""

    key: Ints
    members: Ints


def graph_levels(code: Codes, graph: int) -> Codes:
    """Return the levels of one graph.

    Args:
        code: (E,) codes of entries.
        graph: the graph's position in GRAPHS.
    """
    return (code >> np.uint8(4 * graph)) & np.uint8(15)


def user_day_key(user: Ints, day: NDArray[np.integer[Any]]) -> Ints:
    """Return the key of a user's day: the first 48 bits of the user's hash, then the number of the day.

    Args:
        user: (E,) int64 hashes.
        day: (E,) day numbers.
    """
    return user_key(user) | (day.astype(np.int64) & ((1 << DAY_BITS) - 1))


def user_key(user: Ints) -> Ints:
    """Return the key of all days of a user, from the user's hash or from the key of any day."""
    return user >> DAY_BITS << DAY_BITS


def sampling_hash(user: Ints, item: Ints, seed: int) -> NDArray[np.uint64]:
    """Return a uniform hash of each entry; a cap keeps the entries with the smallest hashes, whatever their order.

    Args:
        user: (E,) int64.
        item: (E,) int64.
        seed: another seed gives another sample.
    """
    return split_mix64(user.view(np.uint64) ^ split_mix64(item.view(np.uint64) + np.uint64(seed)))


def cap_entries(entries: Entries, by: str, cap: int, seed: int) -> tuple[Entries, CutGroups]:
    """Keep each (user, item) once, at its highest levels, and at most `cap` entries per group, sampled by hash.

    Each graph is capped as if the other did not exist. The result is in the order of the groups.

    Args:
        entries: the entries, in any order.
        by: "user" or "item", the group.
        cap: entries per group.
        seed: seed of the sample.
    """
    group, member = (entries.user, entries.item) if by == "user" else (entries.item, entries.user)
    order = np.lexsort((member, group))
    group, member, code = group[order], member[order], entries.code[order]
    if len(group) == 0:
        return entries, CutGroups(group, np.zeros(0, np.int64))
    first = starts_of_runs(group, member)
    if len(first) < len(group):
        full, fit = (np.maximum.reduceat(graph_levels(code, graph), first) for graph in range(len(GRAPHS)))
        group, member, code = group[first], member[first], full | fit << 4
    starts = starts_of_runs(group)
    sizes = np.diff(np.append(starts, len(group)))
    is_wide = sizes > cap
    cut = CutGroups(group[starts[is_wide]], sizes[is_wide].astype(np.int64))
    if is_wide.any():
        rows = np.flatnonzero(np.repeat(is_wide, sizes))
        user, item = (group, member) if by == "user" else (member, group)
        ranked = rows[np.lexsort((sampling_hash(user[rows], item[rows], seed), group[rows]))]
        code = _without_excess(code, ranked, sizes[is_wide], cap)
        rest = code > 0
        group, member, code = group[rest], member[rest], code[rest]
    return Entries(group, member, code) if by == "user" else Entries(member, group, code), cut


def _without_excess(code: Codes, ranked: Ints, sizes: Ints, cap: int) -> Codes:
    """Set the level in each graph to 0 for all but the first `cap` entries that a group has in that graph.

    Args:
        code: codes of all entries; changed in place.
        ranked: positions of the entries of the wide groups, group by group, by sampling hash.
        sizes: entries of each wide group.
        cap: entries per group.
    """
    begins = np.repeat(offsets_from_lengths(sizes)[:-1], sizes)
    for graph in range(len(GRAPHS)):
        inside = (graph_levels(code[ranked], graph) > 0).astype(np.int64)
        running: Ints = np.cumsum(inside)
        rank = running - (running - inside)[begins]
        code[ranked[rank > cap]] &= np.uint8(15 << 4 * (1 - graph))
    return code


def cap_stream(batches: Iterable[Entries], by: str, cap: int, seed: int) -> tuple[Entries, CutGroups]:
    """Cap entries that come in batches; the same entries stay as if `cap_entries` got all batches at once.

    Memory holds one batch, and about BUFFERED_ROWS entries or twice the entries that stay, whichever is more.

    Args:
        batches: the entries, in batches of any order.
        by: "user" or "item", the group.
        cap: entries per group.
        seed: seed of the sample.
    """
    buffer: list[Entries] = []
    rows, limit = 0, BUFFERED_ROWS
    dropped: list[CutGroups] = []

    def capped() -> Entries:
        entries, cut = cap_entries(_concatenate(buffer), by, cap, seed)
        dropped.append(CutGroups(cut.key, cut.members - cap))
        return entries

    for entries in batches:
        buffer.append(entries)
        rows += len(entries.user)
        if rows > limit:
            buffer = [capped()]
            rows = len(buffer[0].user)
            limit = max(BUFFERED_ROWS, 2 * rows)
    if not buffer:
        none = np.zeros(0, np.int64)
        return Entries(none, none, np.zeros(0, np.uint8)), CutGroups(none, none)
    rest = capped()
    together = CutGroups(*(np.concatenate(column) for column in zip(*dropped, strict=True)))
    keys = np.unique(together.key)
    excess = np.bincount(np.searchsorted(keys, together.key), together.members, len(keys)).astype(np.int64)
    return rest, CutGroups(keys, cap + excess)


def user_lists(entries: Entries, cap: int, seed: int) -> tuple[Entries, CutGroups]:
    """Make the lists that Swing treats as users: one list per user, or one per day for users above the cap.

    Each graph is treated as if the other did not exist.

    Args:
        entries: entries whose `user` is a `user_day_key`.
        cap: items of a list.
        seed: seed of the sample.

    Returns:
        The entries, list by list, and the users' days that the cap cut.
    """
    whole_user = user_key(entries.user)
    together, none = cap_entries(entries._replace(user=whole_user), "user", UNBOUNDED, seed)
    by_graph, is_busy = [], np.zeros(len(whole_user), np.bool_)
    for graph in range(len(GRAPHS)):
        user, items = np.unique(together.user[graph_levels(together.code, graph) > 0], return_counts=True)
        is_busy_here = np.isin(whole_user, user[items > cap])
        code = entries.code & np.uint8(15 << 4 * graph)
        by_graph.append(Entries(np.where(is_busy_here, entries.user, whole_user), entries.item, code))
        is_busy |= is_busy_here
    if not is_busy.any():
        return together, none
    of_busy = _concatenate([_select(part, is_busy & (part.code > 0)) for part in by_graph])
    daily, cut = cap_entries(of_busy, "user", cap, seed)
    of_others = _select(together, ~np.isin(together.user, whole_user[is_busy]))
    return _concatenate([of_others, daily]), cut


def bucket_of(item: Ints, buckets: int) -> Ints:
    """Return the bucket in which each item is scored.

    Args:
        item: (E,) int64 hashes.
        buckets: number of buckets.
    """
    return item % buckets


def pack_lists(entries: Entries, buckets: int) -> Iterable[tuple[int, bytes]]:
    """Pack for each bucket, as a whole, the lists of two or more items that have an item in it: (bucket, payload).

    Args:
        entries: the entries, list by list.
        buckets: number of buckets.
    """
    if len(entries.user) == 0:
        return
    starts = starts_of_runs(entries.user)
    sizes = np.diff(np.append(starts, len(entries.user)))
    home = bucket_of(entries.item, buckets)
    for bucket in range(buckets):
        lists = np.logical_or.reduceat(home == bucket, starts) & (sizes > 1)
        if not lists.any():
            continue
        rows = np.repeat(lists, sizes)
        head, length = np.array([bucket, lists.sum()], np.int64), sizes[lists].astype(np.int32)
        yield bucket, b"".join(part.tobytes() for part in (head, length, entries.item[rows], entries.code[rows]))


def unpack_lists(payloads: list[bytes]) -> tuple[int, UserLists, Ints]:
    """Read all payloads of one bucket.

    Returns:
        The bucket; the lists, with items numbered 0, 1, … in the order of their keys; the keys.
    """
    lengths, items, codes = [], [], []
    for payload in payloads:
        bucket, users = (int(n) for n in np.frombuffer(payload, np.int64, 2))
        length = np.frombuffer(payload, np.int32, users, 16)
        entries = int(length.sum())
        lengths.append(length)
        items.append(np.frombuffer(payload, np.int64, entries, 16 + 4 * users))
        codes.append(np.frombuffer(payload, np.uint8, entries, 16 + 4 * users + 8 * entries))
    indptr = offsets_from_lengths(np.concatenate(lengths))
    numbered = pa.chunked_array(items).combine_chunks().dictionary_encode()
    keys = numbered.dictionary.to_numpy()
    order = np.argsort(keys)
    rank = np.empty(len(keys), np.int32)
    rank[order] = np.arange(len(keys), dtype=np.int32)
    return bucket, UserLists(indptr, rank[numbered.indices.to_numpy()], np.concatenate(codes)), keys[order]


def _select(entries: Entries, rows: Flags) -> Entries:
    return Entries(entries.user[rows], entries.item[rows], entries.code[rows])


def _concatenate(parts: list[Entries]) -> Entries:
    return Entries(*(np.concatenate(column) for column in zip(*parts, strict=True)))
