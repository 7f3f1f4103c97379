"""The rules of sessions and of their edges in plain Python, event by event, and a log that uses every rule."""

import datetime as dt
import itertools
import random
from collections import Counter, defaultdict
from typing import Any

from graph_build.config import StrongClickConfig
from graph_build.decay import ONE
from graph_build.ingest.query_text import normalise_query
from tests.graph_build.conftest import at, event

Rows = list[dict[str, Any]]
OPENS = ("view", "click")


def random_log(seed: int) -> Rows:
    """Return a log of short sessions over few items, with ties, repeats, searches, midnights, sources and baskets."""
    rng = random.Random(seed)
    rows: Rows = []
    for s in range(60):
        time = at(rng.choice([10, 600, 1430]), day=rng.randrange(2))
        logs_sources = s % 7 == 0
        basket = s % 9 == 1
        for _ in range(rng.randrange(1, 14)):
            time += dt.timedelta(minutes=rng.choice([0, 0, 1, 5, 20, 40]))
            kind = rng.choice(
                ["purchase", "add_to_cart"] if basket else ["view", "view", "click", "search", "purchase"]
            )
            item = None if kind == "search" else rng.choice("abcdef")
            query = rng.choice(["Red", "red ", "blue"]) if kind == "search" or rng.random() < 0.1 else None
            source = rng.choice("abcdef") if logs_sources and kind == "click" and rng.random() < 0.7 else None
            rows.append(event(f"s{s}", time, kind, item, query=query, source_item_id=source, user_id=f"u{s % 11}"))
    return rows


def sessions_of(rows: Rows) -> dict[tuple[str, dt.date], Rows]:
    """Return the events of each (session id, UTC day) in order, without events that equal the one before them."""
    sessions: dict[tuple[str, dt.date], Rows] = defaultdict(list)
    for _, row in sorted(enumerate(rows), key=lambda pair: (pair[1]["timestamp"], pair[0])):
        session = sessions[row["session_id"], row["timestamp"].date()]
        if not session or session[-1] != row:
            session.append(row)
    return sessions


def with_segments(events: Rows) -> list[tuple[dict[str, Any], int]]:
    """Return each event with the number of searches that began before it or with it."""
    segment, last = 0, None
    numbered = []
    for row in events:
        query = normalise_query(row["query"])
        if row["event_type"] == "search" or (query is not None and query != last):
            segment += 1
        last = query if query is not None else last
        numbered.append((row, segment))
    return numbered


def strong_click_pairs(rows: Rows, config: StrongClickConfig) -> Counter[Any]:
    """Return the number of sessions with each (src, dst, steps, time)."""
    pairs: Counter[Any] = Counter()
    for session in sessions_of(rows).values():
        best: dict[tuple[str, str], tuple[int, dt.datetime]] = {}
        if any(row["source_item_id"] for row in session):
            links = [
                (row["source_item_id"], row["item_id"], 1, row["timestamp"])
                for row in session
                if row["source_item_id"] and row["event_type"] in OPENS
            ]
        else:
            walk: list[tuple[str, dt.datetime, int]] = []
            for row, segment in with_segments(session):
                is_repeat = walk and walk[-1][0] == row["item_id"] and walk[-1][2] == segment
                if row["event_type"] in OPENS and not is_repeat:
                    walk.append((row["item_id"], row["timestamp"], segment))
            links = [
                (a[0], b[0], j - i, b[1])
                for (i, a), (j, b) in itertools.combinations(enumerate(walk), 2)
                if j - i <= config.max_steps
                and a[2] == b[2]
                and b[1] - a[1] <= dt.timedelta(minutes=config.max_gap_minutes)
            ]
        for src, dst, steps, time in links:
            if src != dst:
                best[src, dst] = min(best.get((src, dst), (99, time)), (steps, time))
        for (src, dst), (steps, time) in best.items():
            pairs[src, dst, steps, time] += 1
    return pairs


def strong_click_weights(rows: Rows, config: StrongClickConfig, last: dt.date) -> dict[tuple[str, str], int]:
    """Return the raw weight of each (src, dst) on the as-of day `last`, for a half-life of one day."""
    weights: dict[tuple[str, str], int] = defaultdict(int)
    for (src, dst, steps, time), n in strong_click_pairs(rows, config).items():
        decay = 0.5 ** (last - time.date()).days
        weights[src, dst] += n * round(ONE * decay / steps)
        weights[dst, src] += n * round(ONE * decay * config.backward / steps)
    return weights


def co_search_counts(rows: Rows) -> Counter[Any]:
    """Return for each (day, src, dst) how many of that day's (user, query) pairs led to both items."""
    groups: dict[Any, set[str]] = defaultdict(set)
    for (_, day), session in sessions_of(rows).items():
        last = None
        for row in session:
            if row["event_type"] == "search":
                last = normalise_query(row["query"])
            query = normalise_query(row["query"]) or last
            if row["event_type"] in OPENS and query is not None:
                groups[day, row["user_id"], query].add(row["item_id"])
    return Counter((day, *pair) for (day, _, _), items in groups.items() for pair in itertools.permutations(items, 2))


def item_lists(rows: Rows) -> list[tuple[str, list[str]]]:
    """Return (kind, items) of every session that has an item."""
    lists = []
    for session in sessions_of(rows).values():
        opened = [row["item_id"] for row in session if row["event_type"] in OPENS]
        touched = [row["item_id"] for row in session if row["item_id"] is not None]
        if opened:
            lists.append(("browse", [item for item, _ in itertools.groupby(opened)]))
        elif touched:
            lists.append(("basket", list(dict.fromkeys(touched))))
    return lists
