"""Compiled loops over session events: flags, strong-click pairs and baskets.

The module needs only numpy, and numba for speed. Arrays hold the events of many sessions one after the other: session s
has the events offsets[s] to offsets[s + 1] - 1, in the order in which they happened.
"""

from typing import Any

import numpy as np

from graph_build.arrays import split_mix64
from graph_build.spark.jit import jit

# Event types by number: their positions in `ingest.contract.SESSION_TYPES`.
VIEW, CLICK, ADD_TO_CART, PURCHASE, SEARCH = range(5)

# Flags of an event, as bits of one byte. A run is a series of views and clicks of the same item.
COUNTED = 1  # an item event, except a view that the click just before it opened: such a view counts with the click
RUN_START = 2  # the first event of a run; these events make the session's sequence of items
LISTED = 4  # as RUN_START, if within the cap of items per session
CLICK_STEP = 8  # the first event of a run in a segment, if within the cap; strong clicks are made from these events
WITHIN_CAP = 16  # a view or click within the cap


def _describe_events(
    offsets: Any, kind: Any, item: Any, query: Any, has_query: Any, has_source: Any, max_items: int
) -> Any:
    """Describe each event (flags, segment, search, has_search) and each session (browsed, logged, counted).

    An event's segment is the number of searches that have begun so far, so that two events of one segment have no
    search between them. The search of an event is its own query, else the query of the last search.
    """
    n = len(kind)
    flags = np.zeros(n, np.uint8)
    segment = np.zeros(n, np.int32)
    search = np.zeros(n, np.int64)
    has_search = np.zeros(n, np.bool_)
    sessions = len(offsets) - 1
    browsed = np.zeros(sessions, np.bool_)
    logged = np.zeros(sessions, np.bool_)
    counted = np.zeros(sessions, np.int32)
    for s in range(sessions):
        part = 0
        position = 0
        last = -1  # the previous view or click
        carried, has_carried = np.int64(0), False  # the last query that any event carried
        searched, has_searched = np.int64(0), False  # the query of the last search
        for i in range(offsets[s], offsets[s + 1]):
            opens = kind[i] == VIEW or kind[i] == CLICK
            begins = kind[i] == SEARCH
            if has_query[i]:
                begins = begins or not has_carried or carried != query[i]
                carried, has_carried = query[i], True
                if kind[i] == SEARCH:
                    searched, has_searched = query[i], True
                search[i], has_search[i] = query[i], True
            elif has_searched:
                search[i], has_search[i] = searched, True
            part += begins
            segment[i] = part
            logged[s] |= has_source[i]
            browsed[s] |= opens
            again = opens and last >= 0 and item[last] == item[i]
            if kind[i] != SEARCH and not (again and kind[i] == VIEW and kind[last] == CLICK):
                flags[i] |= COUNTED
                counted[s] += 1
            if opens:
                if not again:
                    position += 1
                    flags[i] |= RUN_START
                    if position <= max_items:
                        flags[i] |= LISTED
                if position <= max_items:
                    flags[i] |= WITHIN_CAP
                    if not again or segment[last] != part:
                        flags[i] |= CLICK_STEP
                last = i
    return flags, segment, search, has_search, browsed, logged, counted


def _strong_click_pairs(
    offsets: Any, kind: Any, item: Any, source: Any, has_source: Any, time: Any, segment: Any, flags: Any, logged: Any,
    max_steps: int, max_gap: int
) -> Any:  # fmt: skip
    """Return strong clicks as (4, P): session, position of the src event, position of the dst event, steps.

    In a session that logs source items, only the logged links count, each as one step; the src event is then the event
    that names the source. A pair that repeats in a session counts once, with its fewest steps; if several repetitions
    have as few, the earliest one counts.
    """
    capacity = 1024
    pairs = np.empty((4, capacity), np.int32)
    used = 0
    table = np.empty(64, np.int64)  # hash table of the pairs of one session, with open addressing
    walk = np.empty(16, np.int64)
    for s in range(len(offsets) - 1):
        first, end = offsets[s], offsets[s + 1]
        length = 0
        if end - first > len(walk):
            walk = np.empty(2 * (end - first), np.int64)
        for i in range(first, end):
            if logged[s]:
                if has_source[i] and flags[i] & WITHIN_CAP:
                    walk[length] = i
                    length += 1
            elif flags[i] & CLICK_STEP:
                walk[length] = i
                length += 1
        max_steps_here = 1 if logged[s] else min(max_steps, length - 1)
        max_pairs = length * max(max_steps_here, 0)
        if max_pairs == 0:
            continue
        while used + max_pairs > capacity:
            capacity *= 2
            grown = np.empty((4, capacity), np.int32)
            grown[:, :used] = pairs[:, :used]
            pairs = grown
        size = _power_of_two(2 * max_pairs)
        if size > len(table):
            table = np.empty(size, np.int64)
        table[:size] = -1
        mask = size - 1
        for steps in range(1, max_steps_here + 1):
            for position in range(length if logged[s] else length - steps):
                i = walk[position]
                j = i if logged[s] else walk[position + steps]
                src = source[i] if logged[s] else item[i]
                dst = item[j]
                if src == dst:
                    continue
                if not logged[s] and (segment[i] != segment[j] or time[j] - time[i] > max_gap):
                    continue
                slot = np.int64(_split_mix64(np.uint64(src) ^ _split_mix64(np.uint64(dst))) & np.uint64(mask))
                is_known = False
                while table[slot] >= 0:
                    p = table[slot]
                    known_src = source[pairs[1, p]] if logged[s] else item[pairs[1, p]]
                    if known_src == src and item[pairs[2, p]] == dst:
                        is_known = True
                        break
                    slot = (slot + 1) & mask
                if not is_known:
                    table[slot] = used
                    pairs[0, used], pairs[1, used], pairs[2, used], pairs[3, used] = s, i, j, steps
                    used += 1
    return pairs[:, :used]


def _basket_items(offsets: Any, item: Any, has_item: Any, browsed: Any, max_items: int) -> Any:
    """Return the first event of each distinct item of each basket. A basket is a session without view or click.

    Returns:
        Positions of the events, at most `max_items` a basket; the offsets of the baskets in these positions; the number
        of distinct items of each session before that cap, 0 if it is no basket.
    """
    positions = np.empty(len(item), np.int32)
    used = 0
    sessions = len(offsets) - 1
    new_offsets = np.zeros(sessions + 1, np.int64)
    distinct = np.zeros(sessions, np.int32)
    table = np.empty(64, np.int64)
    for s in range(sessions):
        first, end = offsets[s], offsets[s + 1]
        if not browsed[s]:
            size = _power_of_two(2 * (end - first))
            if size > len(table):
                table = np.empty(size, np.int64)
            table[:size] = -1
            for i in range(first, end):
                if not has_item[i]:
                    continue
                slot = np.int64(_split_mix64(np.uint64(item[i])) & np.uint64(size - 1))
                while table[slot] >= 0 and item[table[slot]] != item[i]:
                    slot = (slot + 1) & (size - 1)
                if table[slot] < 0:
                    table[slot] = i
                    distinct[s] += 1
                    if distinct[s] <= max_items:
                        positions[used] = i
                        used += 1
        new_offsets[s + 1] = used
    return positions[:used], new_offsets, distinct


def _co_purchase_pairs(offsets: Any, positions: Any, item: Any, session: Any, partners: int, seed: int) -> Any:
    """Put the items of each basket on a ring in the order of a seeded hash; pair each with the next `partners` items.

    The order of the log inside a basket means nothing. If all pairs were made, big baskets would outweigh the others.

    Returns:
        (3, P): session, position of the src event, position of the dst event.
    """
    pairs = np.empty((3, len(positions) * partners), np.int32)
    used = 0
    for s in range(len(offsets) - 1):
        first, end = offsets[s], offsets[s + 1]
        length = end - first
        if length < 2:
            continue
        priority = np.empty(length, np.uint64)
        for p in range(length):
            key = np.uint64(session[s]) + np.uint64(seed)
            priority[p] = _split_mix64(np.uint64(item[positions[first + p]]) ^ _split_mix64(key))
        ring = np.argsort(priority)
        for p in range(length):
            for step in range(1, min(partners, length - 1) + 1):
                pairs[0, used] = s
                pairs[1, used] = positions[first + ring[p]]
                pairs[2, used] = positions[first + ring[(p + step) % length]]
                used += 1
    return pairs[:, :used]


def _next_power_of_two(least: int) -> int:
    """Return the size of a hash table with at least `least` slots, and never fewer than 64."""
    size = 64
    while size < least:
        size *= 2
    return size


def _hash_pair(first: Any, second: Any) -> Any:
    """Return a 64-bit hash of each pair of elements."""
    hashes = np.empty(len(first), np.int64)
    for p in range(len(first)):
        hashes[p] = np.int64(_split_mix64(np.uint64(second[p]) ^ _split_mix64(np.uint64(first[p]))))
    return hashes


_split_mix64 = jit(split_mix64)
_power_of_two = jit(_next_power_of_two)
describe_events = jit(_describe_events)
strong_click_pairs = jit(_strong_click_pairs)
basket_items = jit(_basket_items)
co_purchase_pairs = jit(_co_purchase_pairs)
hash_pair = jit(_hash_pair)
