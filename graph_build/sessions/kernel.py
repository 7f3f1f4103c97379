"""What happened in each session, event by event: numba alone, so that it runs in any Spark worker.

Arrays hold the events of many sessions one after the other; session s has events offsets[s] to offsets[s + 1], in the
order in which they happened.
"""

from typing import Any

import numpy as np

from graph_build.spark.jit import jit

# Event types by number; impressions never get here.
TYPES = ("view", "click", "add_to_cart", "purchase", "search")
VIEW, CLICK, ADD_TO_CART, PURCHASE, SEARCH = range(5)

# What is said of an event, as bits of one byte:
COUNTED = 1  # an item event that is not the view which a click just opened
OPENED = 2  # first view or click of a run of the same item: the session's sequence of items
LISTED = 4  # the same, within the cap of items a session
LEFT = 8  # first of a run within its segment, and within the cap: the sequence that strong clicks are read from
WITHIN = 16  # a view or click within the cap


def _describe(offsets: Any, kind: Any, item: Any, query: Any, has_query: Any, has_source: Any, max_items: int) -> Any:
    """Per event flags, segment (searches begun so far), search (its query, else the last one); per session the rest.

    Two events of one segment have no search between them.
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
        last = -1  # the view or click before
        asked, has_asked = np.int64(0), False  # the query that any event before carried
        sought, has_sought = np.int64(0), False  # the query of the last search
        for i in range(offsets[s], offsets[s + 1]):
            opens = kind[i] == VIEW or kind[i] == CLICK
            begins = kind[i] == SEARCH
            if has_query[i]:
                begins = begins or not has_asked or asked != query[i]
                asked, has_asked = query[i], True
                if kind[i] == SEARCH:
                    sought, has_sought = query[i], True
                search[i], has_search[i] = query[i], True
            elif has_sought:
                search[i], has_search[i] = sought, True
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
                    flags[i] |= OPENED
                    if position <= max_items:
                        flags[i] |= LISTED
                if position <= max_items:
                    flags[i] |= WITHIN
                    if not again or segment[last] != part:
                        flags[i] |= LEFT
                last = i
    return flags, segment, search, has_search, browsed, logged, counted


def _walked(
    offsets: Any, kind: Any, item: Any, source: Any, has_source: Any, time: Any, segment: Any, flags: Any, logged: Any,
    max_steps: int, max_gap: int
) -> Any:  # fmt: skip
    """Strong clicks as places of events: (session, src place, dst place, steps, is_linked).

    In a session that logs source items its links alone count, as one step; src place is then the event of the click.
    A pair that repeats in a session counts once, at its fewest steps and then its earliest time.
    """
    room = 1024
    found = np.empty((4, room), np.int32)
    used = 0
    table = np.empty(64, np.int64)  # open addressing, of the pairs of one session
    walk = np.empty(16, np.int64)
    for s in range(len(offsets) - 1):
        first, end = offsets[s], offsets[s + 1]
        length = 0
        if end - first > len(walk):
            walk = np.empty(2 * (end - first), np.int64)
        for i in range(first, end):
            if logged[s]:
                if has_source[i] and flags[i] & WITHIN:
                    walk[length] = i
                    length += 1
            elif flags[i] & LEFT:
                walk[length] = i
                length += 1
        steps_here = 1 if logged[s] else min(max_steps, length - 1)
        most = length * max(steps_here, 0)
        if most == 0:
            continue
        while used + most > room:
            room *= 2
            grown = np.empty((4, room), np.int32)
            grown[:, :used] = found[:, :used]
            found = grown
        size = _power_of_two(2 * most)
        if size > len(table):
            table = np.empty(size, np.int64)
        table[:size] = -1
        mask = size - 1
        for steps in range(1, steps_here + 1):
            for at in range(length if logged[s] else length - steps):
                i = walk[at]
                j = i if logged[s] else walk[at + steps]
                src = source[i] if logged[s] else item[i]
                dst = item[j]
                if src == dst:
                    continue
                if not logged[s] and (segment[i] != segment[j] or time[j] - time[i] > max_gap):
                    continue
                slot = np.int64(_mix(np.uint64(src) ^ _mix(np.uint64(dst))) & np.uint64(mask))
                known = False
                while table[slot] >= 0:
                    p = table[slot]
                    there = source[found[1, p]] if logged[s] else item[found[1, p]]
                    if there == src and item[found[2, p]] == dst:
                        known = True
                        break
                    slot = (slot + 1) & mask
                if not known:
                    table[slot] = used
                    found[0, used], found[1, used], found[2, used], found[3, used] = s, i, j, steps
                    used += 1
    return found[:, :used]


def _bought(offsets: Any, item: Any, has_item: Any, browsed: Any, max_items: int) -> Any:
    """The distinct items of each session without a view or click, at first sight: places, offsets, how many."""
    places = np.empty(len(item), np.int32)
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
                slot = np.int64(_mix(np.uint64(item[i])) & np.uint64(size - 1))
                while table[slot] >= 0 and item[table[slot]] != item[i]:
                    slot = (slot + 1) & (size - 1)
                if table[slot] < 0:
                    table[slot] = i
                    distinct[s] += 1
                    if distinct[s] <= max_items:
                        places[used] = i
                        used += 1
        new_offsets[s + 1] = used
    return places[:used], new_offsets, distinct


def _bought_together(offsets: Any, places: Any, item: Any, session: Any, partners: int, seed: int) -> Any:
    """Each item of a basket with the `partners` items after it on a ring in seeded hash order: session, places of both.

    The order inside a basket means nothing, and all its pairs would let the big baskets speak loudest.
    """
    room = len(places) * partners
    found = np.empty((3, room), np.int32)
    used = 0
    for s in range(len(offsets) - 1):
        first, end = offsets[s], offsets[s + 1]
        length = end - first
        if length < 2:
            continue
        chance = np.empty(length, np.uint64)
        for p in range(length):
            key = np.uint64(session[s]) + np.uint64(seed)
            chance[p] = _mix(np.uint64(item[places[first + p]]) ^ _mix(key))
        ring = np.argsort(chance)
        for p in range(length):
            for step in range(1, min(partners, length - 1) + 1):
                found[0, used] = s
                found[1, used] = places[first + ring[p]]
                found[2, used] = places[first + ring[(p + step) % length]]
                used += 1
    return found[:, :used]


def _least_power_of_two(most: int) -> int:
    size = 64
    while size < most:
        size *= 2
    return size


def _split_mix(x: Any) -> Any:
    """The finaliser of SplitMix64 (Steele et al. 2014)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _combined(one: Any, other: Any) -> Any:
    """A 64-bit hash of each pair."""
    out = np.empty(len(one), np.int64)
    for p in range(len(one)):
        out[p] = np.int64(_mix(np.uint64(other[p]) ^ _mix(np.uint64(one[p]))))
    return out


_mix = jit(_split_mix)
_power_of_two = jit(_least_power_of_two)
describe = jit(_describe)
walked = jit(_walked)
bought = jit(_bought)
bought_together = jit(_bought_together)
mixed = jit(_combined)
