"""Swing scores of one bucket of items.

The module needs only numpy, and numba for speed, so that it runs in any Spark worker.

Two items are similar if pairs of users who share little else opened both (Yang et al., arXiv 2010.05525):

    s(i, j) = Σ_{u<v ∈ U_i ∩ U_j} w_u w_v √(b_ui b_uj) √(b_vi b_vj) / (α + |I_u ∩ I_v|),
    w_u = 1 / (offset + |I_u|)^exponent

U_i are the users of item i, I_u the items of user u. The strengths b of the behaviours (a purchase is stronger than a
view) are our addition; with all b = 1 the formula is the paper's.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from graph_build.arrays import Ints
from graph_build.spark.jit import jit

Codes = NDArray[np.int32]
Levels = NDArray[np.uint8]
Floats = NDArray[np.float64]


class UserLists(NamedTuple):
    """The items of U users as E entries in CSR form: user u has the entries indptr[u] to indptr[u + 1] - 1.

    Args:
        indptr: (U + 1,) int64.
        items: (E,) int32, ascending within a user.
        levels: (E,) uint8, the position of the entry's strength in a table of strengths; an entry of level 0 does not
            count.
    """

    indptr: Ints
    items: Codes
    levels: Levels


def drop_uncounted(lists: UserLists, min_items: int) -> UserLists:
    """Drop entries of level 0, then users with too few entries.

    Args:
        lists: items and levels by user.
        min_items: entries that a user must have.
    """
    return UserLists(*_drop_uncounted(*lists, min_items))


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
    """Return the best-scored partners of each anchor item (formula: see the module).

    Args:
        lists: every entry counts. Items are numbers in [0, n), in the order of the items' hashes.
        strengths: float64, the strength b of each level.
        anchors: (n,) bool, the items to score; `lists` must hold every user of an anchor, with all items of the user.
        alpha: α.
        user_offset: offset in w_u.
        user_exponent: exponent in w_u.
        top_k: partners per anchor.
        scale: units in a score of 1. Scores are sums of integers, so that the order of the users does not matter.

    Returns:
        anchor (P,) int32, partner (P,) int32, score (P,) int64 in units of 1 / scale. At most top_k partners per
        anchor, best first, ties by the smaller item; anchors ascend.
    """
    weights = (user_offset + np.diff(lists.indptr).astype(np.float64)) ** -user_exponent
    order, starts = _users_of(lists.indptr, lists.items, anchors)
    roots = np.sqrt(strengths)
    return _kernel(*lists, order, starts, weights, roots, np.flatnonzero(anchors), len(anchors), alpha, top_k, scale)


def _drop_uncounted_entries(indptr: Any, items: Any, levels: Any, min_items: int) -> Any:
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
    """Return the users of each anchor, ascending, and the offset at which the users of each item begin."""
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
    capacity = 0
    for a in anchors:
        widest = max(widest, starts[a + 1] - starts[a])
        entries = 0
        for p in range(starts[a], starts[a + 1]):
            entries += indptr[item_users[p] + 1] - indptr[item_users[p]]
        longest = max(longest, entries)
        capacity += min(top_k, entries)
    out_anchor = np.empty(capacity, np.int32)
    out_partner = np.empty(capacity, np.int32)
    out_score = np.empty(capacity, np.int64)
    used = 0
    share = scale / (alpha + 1.0 + np.arange(longest + 1))
    common = np.zeros(widest, np.int32)  # |I_u ∩ I_v| without the anchor, by v's position among the anchor's users
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
        # Inverted lists: for each other item that at least two of the anchor's users have, which users these are.
        # Most items belong to only one of the anchor's users, and get no list.
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
        # The members of a list ascend, and u runs through them in order; the members after the cursor are the v > u.
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


_drop_uncounted = jit(_drop_uncounted_entries)
_users_of = jit(_anchor_entries)
_kernel = jit(_score)
