"""The arithmetic of Swing on one bucket of items: numpy and numba alone, so that it runs in any Spark worker."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from graph_build.spark.jit import jit

Ints = NDArray[np.int64]
Codes = NDArray[np.int32]
Levels = NDArray[np.uint8]
Floats = NDArray[np.float64]


class UserLists(NamedTuple):
    """What users opened, in CSR form: user u has entries indptr[u] to indptr[u + 1].

    indptr: (U + 1,) int64. items: (E,) int32, ascending within a user. levels: (E,) uint8, the place of the entry's
    strength in a table of strengths; 0 says that the entry does not count.
    """

    indptr: Ints
    items: Codes
    levels: Levels


def counted(lists: UserLists, min_items: int) -> UserLists:
    """The entries that count, of the users who have at least `min_items` of them."""
    return UserLists(*_counted(*lists, min_items))


def swing_top_k(
    lists: UserLists,
    strengths: Floats,
    anchors: NDArray[np.bool_],
    *,
    alpha: float,
    user_offset: float,
    user_exponent: float,
    top_k: int,
    scale: int,
) -> tuple[Codes, Codes, Ints]:
    """The best-scored partners of each anchor item.

    s(i, j) = Σ_{u<v ∈ U_i ∩ U_j} w_u w_v √(b_ui b_uj) √(b_vi b_vj) / (α + |I_u ∩ I_v|) with
    w_u = 1 / (offset + |I_u|)^exponent (arXiv 2010.05525; with all strengths b = 1 the plain formula).

    Args:
        lists: items in [0, n); their numbers must order as the item ids do; every entry counts.
        strengths: float64, b by level.
        anchors: (n,) bool, the items to score; every user of an anchor must be present with all its items.
        scale: units in one point of score; sums are of integers, so that they come out the same in any order.

    Returns:
        anchor, partner, score: (P,) int32, int32 and int64 arrays, score in units of 1 / scale; at most top_k
        partners an anchor, best first, ties by the smaller item; anchors ascending.
    """
    weights = (user_offset + np.diff(lists.indptr).astype(np.float64)) ** -user_exponent
    order, starts = _users_of(lists.indptr, lists.items, anchors)
    roots = np.sqrt(strengths)
    return _kernel(*lists, order, starts, weights, roots, np.flatnonzero(anchors), len(anchors), alpha, top_k, scale)


def _compact(indptr: Any, items: Any, levels: Any, min_items: int) -> Any:
    new_indptr = np.zeros(len(indptr), np.int64)
    new_items = np.empty(len(items), np.int32)
    new_levels = np.empty(len(items), np.uint8)
    users = 0
    end = 0
    for u in range(len(indptr) - 1):
        start = end
        for p in range(indptr[u], indptr[u + 1]):
            if levels[p] > 0:
                new_items[end] = items[p]
                new_levels[end] = levels[p]
                end += 1
        if end - start < min_items:
            end = start
        else:
            users += 1
            new_indptr[users] = end
    return new_indptr[: users + 1], new_items[:end], new_levels[:end]


def _anchor_entries(indptr: Any, items: Any, anchors: Any) -> Any:
    """The users of each anchor, ascending: (user, level place) pairs, and where each item's begin."""
    starts = np.zeros(len(anchors) + 1, np.int64)
    for p in range(len(items)):
        if anchors[items[p]]:
            starts[items[p] + 1] += 1
    for j in range(len(anchors)):
        starts[j + 1] += starts[j]
    cursor = starts[:-1].copy()
    users = np.empty(starts[-1], np.int32)
    for u in range(len(indptr) - 1):
        for p in range(indptr[u], indptr[u + 1]):
            if anchors[items[p]]:
                users[cursor[items[p]]] = u
                cursor[items[p]] += 1
    return users, starts


def _score(
    indptr: Any,
    items: Any,
    levels: Any,
    item_users: Any,
    starts: Any,
    weights: Any,
    roots: Any,
    anchors: Any,
    n: int,
    alpha: float,
    top_k: int,
    scale: float,
) -> Any:
    widest = 0
    longest = 0
    room = 0
    for a in anchors:
        widest = max(widest, starts[a + 1] - starts[a])
        entries = 0
        for p in range(starts[a], starts[a + 1]):
            entries += indptr[item_users[p] + 1] - indptr[item_users[p]]
        longest = max(longest, entries)
        room += min(top_k, entries)
    out_anchor = np.empty(room, np.int32)
    out_partner = np.empty(room, np.int32)
    out_score = np.empty(room, np.int64)
    used = 0
    share = scale / (alpha + 1.0 + np.arange(longest + 1))
    common = np.zeros(widest, np.int32)  # |I_u ∩ I_v| without the anchor, by v's place among the anchor's users
    touched = np.empty(longest, np.int32)
    member = np.empty(longest, np.int32)
    value = np.empty(longest, np.float64)
    size = np.zeros(n, np.int32)
    cursor = np.empty(n, np.int32)
    end = np.empty(n, np.int32)
    score = np.zeros(n, np.int64)
    for a in anchors:
        first, last = starts[a], starts[a + 1]
        if last - first < 2:
            continue
        m = 0
        for p in range(first, last):
            for q in range(indptr[item_users[p]], indptr[item_users[p] + 1]):
                j = items[q]
                if size[j] == 0:
                    touched[m] = j
                    m += 1
                size[j] += 1
        # Inverted lists of the anchor's users: for each other item that two of them have, which of them have it. What
        # one user alone has, most of it, costs nothing further.
        shared = 0
        offset = 0
        for t in range(m):
            j = touched[t]
            cursor[j] = offset
            end[j] = offset
            if size[j] > 1 and j != a:
                offset += size[j]
                touched[shared] = j
                shared += 1
            else:
                size[j] = 0
        for p in range(first, last):
            u = item_users[p]
            mine = weights[u]
            for q in range(indptr[u], indptr[u + 1]):
                if items[q] == a:
                    mine *= roots[levels[q]]
            for q in range(indptr[u], indptr[u + 1]):
                j = items[q]
                if size[j] > 1:
                    member[end[j]] = p - first
                    value[end[j]] = mine * roots[levels[q]]
                    end[j] += 1
        # The members of a list ascend and u goes through them in order: after the cursor come the v > u.
        for p in range(first, last):
            u = item_users[p]
            for q in range(indptr[u], indptr[u + 1]):
                j = items[q]
                if size[j] > 1:
                    for s in range(cursor[j] + 1, end[j]):
                        common[member[s]] += 1
            for q in range(indptr[u], indptr[u + 1]):
                j = items[q]
                if size[j] > 1:
                    mine = value[cursor[j]]
                    points = np.int64(0)
                    for s in range(cursor[j] + 1, end[j]):
                        points += np.int64(mine * value[s] * share[common[member[s]]] + 0.5)
                    score[j] += points
            for q in range(indptr[u], indptr[u + 1]):
                j = items[q]
                if size[j] > 1:
                    for s in range(cursor[j] + 1, end[j]):
                        common[member[s]] = 0
                    cursor[j] += 1
        scored = np.sort(touched[:shared])
        order = np.argsort(-score[scored], kind="mergesort")  # stable: ties stay in the order of the items
        for t in range(min(top_k, shared)):
            j = scored[order[t]]
            if score[j] <= 0:
                break
            out_anchor[used] = a
            out_partner[used] = j
            out_score[used] = score[j]
            used += 1
        for t in range(shared):
            size[touched[t]] = 0
            score[touched[t]] = 0
    return out_anchor[:used], out_partner[:used], out_score[:used]


_counted = jit(_compact)
_users_of = jit(_anchor_entries)
_kernel = jit(_score)
