"""Bounded user lists for Swing, and the packed form in which they travel to the buckets: numpy and Arrow alone.

An entry carries one byte: the level of its strength in the whole graph in the low four bits, in the fit graph (without
the hold-out sessions) in the high four. Level 0: the entry is not in that graph.

A user with more items than the cap counts day by day: what a household bought on one day belongs together, a hundred
items by chance of all that it bought in a year do not.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from graph_build.edges.swing_kernel import UserLists

Keys = NDArray[np.int64]
Codes = NDArray[np.uint8]

GRAPHS = ("full", "fit")
# The low bits of a user's key that hold the day.
DAY_BITS = 16
UNBOUNDED = 2**63 - 1
# Rows that are held before they are bounded again: some hundred MB in a Python worker.
HELD_ROWS = 4_000_000


class Entries(NamedTuple):
    """User-item entries: user (E,) int64, item (E,) int64, code (E,) uint8."""

    user: Keys
    item: Keys
    code: Codes


class Cut(NamedTuple):
    """The groups that had more members than the cap: their keys, and how many members they had."""

    key: Keys
    members: NDArray[np.int64]


def levels(code: Codes, graph: int) -> Codes:
    """The levels of one graph (its place in GRAPHS)."""
    return (code >> np.uint8(4 * graph)) & np.uint8(15)


def of_day(user: Keys, day: NDArray[np.integer[Any]]) -> Keys:
    """The key of a user's day: the first 48 bits of the user's hash (E,) int64, then the number of the day (E,)."""
    return whole(user) | (day.astype(np.int64) & ((1 << DAY_BITS) - 1))


def whole(user: Keys) -> Keys:
    """The key of all days of the users whose days, or whose hashes, are given."""
    return user >> DAY_BITS << DAY_BITS


def chance(user: Keys, item: Keys, seed: int) -> NDArray[np.uint64]:
    """A uniform 64-bit hash of (user, item): what the caps choose by, in whatever order the entries come."""
    return _mix(user.view(np.uint64) ^ _mix(item.view(np.uint64) + np.uint64(seed)))


def bounded(entries: Entries, by: str, cap: int, seed: int) -> tuple[Entries, Cut]:
    """Each (user, item) once, with its highest levels; at most `cap` a user or item (`by`), those of least chance.

    Each graph is bounded as if the other did not exist. The result comes in the order of the groups.
    """
    group, member = (entries.user, entries.item) if by == "user" else (entries.item, entries.user)
    order = np.lexsort((member, group))
    group, member, code = group[order], member[order], entries.code[order]
    if len(group) == 0:
        return entries, Cut(group, np.zeros(0, np.int64))
    first = np.flatnonzero(np.concatenate([[True], (group[1:] != group[:-1]) | (member[1:] != member[:-1])]))
    if len(first) < len(group):
        full, fit = (np.maximum.reduceat(levels(code, graph), first) for graph in (0, 1))
        group, member, code = group[first], member[first], full | fit << 4
    starts = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]]))
    sizes = np.diff(np.append(starts, len(group)))
    wide = sizes > cap
    cut = Cut(group[starts[wide]], sizes[wide].astype(np.int64))
    if wide.any():
        rows = np.flatnonzero(np.repeat(wide, sizes))
        user, item = (group, member) if by == "user" else (member, group)
        ranked = rows[np.lexsort((chance(user[rows], item[rows], seed), group[rows]))]
        widths = sizes[wide]
        begins = np.repeat(np.cumsum(widths) - widths, widths)
        for graph in range(len(GRAPHS)):
            within = (levels(code[ranked], graph) > 0).astype(np.int64)
            so_far: NDArray[np.int64] = np.cumsum(within)
            rank = so_far - (so_far - within)[begins]
            code[ranked[rank > cap]] &= np.uint8(15 << 4 * (1 - graph))
        left = code > 0
        group, member, code = group[left], member[left], code[left]
    return Entries(group, member, code) if by == "user" else Entries(member, group, code), cut


def bounded_stream(batches: Iterable[Entries], by: str, cap: int, seed: int) -> tuple[Entries, Cut]:
    """`bounded` over entries that come in pieces; holds few more than HELD_ROWS and what stays of them at a time."""
    held: list[Entries] = []
    rows, limit = 0, HELD_ROWS
    dropped: list[Cut] = []

    def bound() -> Entries:
        kept, cut = bounded(_joined(held), by, cap, seed)
        dropped.append(Cut(cut.key, cut.members - cap))
        return kept

    for entries in batches:
        held.append(entries)
        rows += len(entries.user)
        if rows > limit:
            held = [bound()]
            rows = len(held[0].user)
            limit = max(HELD_ROWS, 2 * rows)
    if not held:
        none = np.zeros(0, np.int64)
        return Entries(none, none, np.zeros(0, np.uint8)), Cut(none, none)
    kept = bound()
    together = Cut(*(np.concatenate(column) for column in zip(*dropped, strict=True)))
    keys = np.unique(together.key)
    more = np.bincount(np.searchsorted(keys, together.key), together.members, len(keys)).astype(np.int64)
    return kept, Cut(keys, cap + more)


def user_lists(entries: Entries, cap: int, seed: int) -> tuple[Entries, Cut]:
    """Users' days (`of_day`) → the lists that Swing takes for users, `bounded`, and the days that the cap cut.

    A user is one list (`whole`) with at most `cap` items, otherwise a list a day; each graph as if the other did not
    exist.
    """
    everything = whole(entries.user)
    together, none = bounded(entries._replace(user=everything), "user", UNBOUNDED, seed)
    parts, busy = [], np.zeros(len(everything), np.bool_)
    for graph in range(len(GRAPHS)):
        user, items = np.unique(together.user[levels(together.code, graph) > 0], return_counts=True)
        many = np.isin(everything, user[items > cap])
        code = entries.code & np.uint8(15 << 4 * graph)
        parts.append(Entries(np.where(many, entries.user, everything), entries.item, code))
        busy |= many
    if not busy.any():
        return together, none
    kept, cut = bounded(_joined([_some(part, busy & (part.code > 0)) for part in parts]), "user", cap, seed)
    return _joined([_some(together, ~np.isin(together.user, everything[busy])), kept]), cut


def bucket_of(item: Keys, buckets: int) -> NDArray[np.int64]:
    """The bucket in which an item is scored."""
    return item % buckets


def packed(entries: Entries, buckets: int) -> Iterable[tuple[int, bytes]]:
    """For each bucket the whole lists of the users who have an item of it; `entries` come a user after the other."""
    if len(entries.user) == 0:
        return
    starts = np.flatnonzero(np.concatenate([[True], entries.user[1:] != entries.user[:-1]]))
    sizes = np.diff(np.append(starts, len(entries.user)))
    home = bucket_of(entries.item, buckets)
    for bucket in range(buckets):
        lists = np.logical_or.reduceat(home == bucket, starts) & (sizes > 1)
        if not lists.any():
            continue
        mine = np.repeat(lists, sizes)
        head, length = np.array([bucket, lists.sum()], np.int64), sizes[lists].astype(np.int32)
        yield bucket, b"".join(a.tobytes() for a in (head, length, entries.item[mine], entries.code[mine]))


def unpacked(payloads: list[bytes]) -> tuple[int, UserLists, Keys]:
    """The bucket, the lists of all its payloads with items numbered 0, 1, … in the order of their keys, the keys."""
    lengths, items, codes = [], [], []
    for payload in payloads:
        bucket, users = (int(n) for n in np.frombuffer(payload, np.int64, 2))
        length = np.frombuffer(payload, np.int32, users, 16)
        entries = int(length.sum())
        lengths.append(length)
        items.append(np.frombuffer(payload, np.int64, entries, 16 + 4 * users))
        codes.append(np.frombuffer(payload, np.uint8, entries, 16 + 4 * users + 8 * entries))
    indptr = np.concatenate([[0], np.cumsum(np.concatenate(lengths), dtype=np.int64)])
    numbered = pa.chunked_array(items).combine_chunks().dictionary_encode()
    known = numbered.dictionary.to_numpy()
    order = np.argsort(known)
    rank = np.empty(len(known), np.int32)
    rank[order] = np.arange(len(known), dtype=np.int32)
    return bucket, UserLists(indptr, rank[numbered.indices.to_numpy()], np.concatenate(codes)), known[order]


def _some(entries: Entries, which: NDArray[np.bool_]) -> Entries:
    return Entries(entries.user[which], entries.item[which], entries.code[which])


def _joined(parts: list[Entries]) -> Entries:
    return Entries(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele et al. 2014)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
