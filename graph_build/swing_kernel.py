"""The arithmetic of Swing on one bucket of items: numpy and numba alone, so that it runs in any Spark worker."""

import os
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# Scores are summed in fixed point: the same in any order. One step is 2.3e-10.
SCALE = float(1 << 32)


def swing_top_k(
    indptr: Ints,
    items: Ints,
    strength: Floats,
    anchors: NDArray[np.bool_],
    *,
    alpha: float,
    user_offset: float,
    user_exponent: float,
    top_k: int,
) -> tuple[Ints, Ints, Ints]:
    """The best-scored partners of each anchor item.

    s(i, j) = Σ_{u<v ∈ U_i ∩ U_j} w_u w_v √(b_ui b_uj) √(b_vi b_vj) / (α + |I_u ∩ I_v|) with
    w_u = 1 / (offset + |I_u|)^exponent (arXiv 2010.05525; with all strengths b = 1 the plain formula).

    Args:
        indptr: (U + 1,) int64, CSR offsets of the users' item lists.
        items: (E,) int64 in [0, n); distinct within a user. The numbers must order as the item ids do.
        strength: (E,) float64, b_ui.
        anchors: (n,) bool, the items to score; every user of an anchor must be present with all its items.

    Returns:
        anchor, partner, score: three (P,) int64 arrays, score in units of 2^-32; at most top_k partners an anchor,
        best first, ties by the smaller item; anchors ascending.
    """
    n = len(anchors)
    users = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    by_item = np.argsort(items, kind="stable")
    item_indptr = np.zeros(n + 1, np.int64)
    np.cumsum(np.bincount(items, minlength=n), out=item_indptr[1:])
    weights = (user_offset + np.diff(indptr).astype(np.float64)) ** -user_exponent
    return _kernel(
        indptr,
        items,
        np.sqrt(strength),
        item_indptr,
        users[by_item],
        np.sqrt(strength)[by_item],
        weights,
        np.flatnonzero(anchors),
        alpha,
        top_k,
    )


def _score(
    indptr: Any,
    items: Any,
    roots: Any,
    item_indptr: Any,
    item_users: Any,
    item_roots: Any,
    weights: Any,
    anchors: Any,
    alpha: float,
    top_k: int,
) -> Any:
    n = len(item_indptr) - 1
    widest = 0
    room = 0
    for a in anchors:
        widest = max(widest, item_indptr[a + 1] - item_indptr[a])
        partners = 0
        for p in range(item_indptr[a], item_indptr[a + 1]):
            partners += indptr[item_users[p] + 1] - indptr[item_users[p]] - 1
        room += min(top_k, partners)
    out_anchor = np.empty(room, np.int64)
    out_partner = np.empty(room, np.int64)
    out_score = np.empty(room, np.int64)
    used = 0
    common = np.zeros(widest, np.int64)  # |I_u ∩ I_v| without the anchor, by v's place among the anchor's users
    size = np.zeros(n, np.int64)
    cursor = np.empty(n, np.int64)
    end = np.empty(n, np.int64)
    score = np.zeros(n, np.int64)
    for a in anchors:
        first, last = item_indptr[a], item_indptr[a + 1]
        if last - first < 2:
            continue
        # Inverted lists of the anchor's users: for each other item, which of them have it. Two users who share
        # the anchor alone meet in no list, and so cost nothing.
        total = 0
        for p in range(first, last):
            total += indptr[item_users[p] + 1] - indptr[item_users[p]] - 1
        touched = np.empty(total, np.int64)
        m = 0
        for p in range(first, last):
            for q in range(indptr[item_users[p]], indptr[item_users[p] + 1]):
                j = items[q]
                if j != a:
                    if size[j] == 0:
                        touched[m] = j
                        m += 1
                    size[j] += 1
        offset = 0
        for t in range(m):
            j = touched[t]
            cursor[j] = offset
            end[j] = offset
            offset += size[j]
        member = np.empty(total, np.int64)
        value = np.empty(total, np.float64)
        for p in range(first, last):
            u = item_users[p]
            for q in range(indptr[u], indptr[u + 1]):
                j = items[q]
                if j != a:
                    member[end[j]] = p - first
                    value[end[j]] = weights[u] * item_roots[p] * roots[q]
                    end[j] += 1
        # The members of a list ascend and u goes through them in order: after the cursor come the v > u.
        for p in range(first, last):
            u = item_users[p]
            for q in range(indptr[u], indptr[u + 1]):
                j = items[q]
                if j != a:
                    for s in range(cursor[j] + 1, end[j]):
                        common[member[s]] += 1
            for q in range(indptr[u], indptr[u + 1]):
                j = items[q]
                if j != a:
                    mine = value[cursor[j]] * SCALE
                    for s in range(cursor[j] + 1, end[j]):
                        score[j] += np.int64(np.rint(mine * value[s] / (alpha + 1.0 + common[member[s]])))
            for q in range(indptr[u], indptr[u + 1]):
                j = items[q]
                if j != a:
                    for s in range(cursor[j] + 1, end[j]):
                        common[member[s]] = 0
                    cursor[j] += 1
        scored = np.sort(touched[:m])
        order = np.argsort(-score[scored], kind="mergesort")  # stable: ties stay in the order of the items
        for t in range(min(top_k, m)):
            j = scored[order[t]]
            if score[j] <= 0:
                break
            out_anchor[used] = a
            out_partner[used] = j
            out_score[used] = score[j]
            used += 1
        for t in range(m):
            size[touched[t]] = 0
            score[touched[t]] = 0
    return out_anchor[:used], out_partner[:used], out_score[:used]


# Compiled once a host, unless the code came in a zip (a cluster), where there is nowhere to keep it.
_kernel = numba.njit(cache=os.path.isfile(__file__))(_score)
