"""The marketplace's event log looks like that of a real shop: sessions, searches, purchases, bots and broken rows."""

from collections import Counter, defaultdict
from datetime import timedelta
from itertools import pairwise

import numpy as np

from jobs.marketplace.words import STYLES
from tests.jobs.marketplace.market import END, SMALL, START, Market, by_session, is_bot, is_valid


def test_the_log_ends_where_the_test_day_begins(market: Market) -> None:
    times = [row["timestamp"] for row in market.events]
    test_times = market.test_events["timestamp"].to_pylist()
    assert START <= min(times) <= START + timedelta(hours=3)
    assert END - timedelta(hours=3) <= max(times) < END
    assert END <= min(test_times) <= max(test_times) < END + timedelta(days=1)
    assert all(is_valid(row) for row in market.test_events.to_pylist())


def test_a_few_items_have_most_of_the_events(market: Market) -> None:
    counts = np.sort([*Counter(row["item_id"] for row in market.events if row["item_id"]).values()])[::-1]
    assert 0.45 <= (counts <= 5).mean() <= 0.75
    assert counts[: len(counts) // 100].sum() > 0.06 * counts.sum()
    assert counts[: len(counts) // 5].sum() > 0.6 * counts.sum()


def test_most_sessions_are_short_and_a_few_are_long(market: Market) -> None:
    opened = []
    for session in by_session(market.events).values():
        items = [row["item_id"] for row in session if row["event_type"] in ("view", "click")]
        if items and not is_bot(session):
            opened.append(1 + sum(a != b for a, b in pairwise(items)))
    assert 3.8 <= np.mean(opened) <= 5.2
    assert 0.1 <= np.mean(np.array(opened) == 1) <= 0.35
    assert np.quantile(opened, 0.99) >= 12


def test_the_evening_is_busy_and_the_night_is_quiet(market: Market) -> None:
    hours = Counter(row["timestamp"].hour for row in market.events)
    assert sum(hours[h] for h in (19, 20, 21)) > 6 * sum(hours[h] for h in (2, 3, 4))


def test_some_sessions_log_the_source_of_their_clicks_and_others_never_do(market: Market) -> None:
    sessions = [s for s in by_session(market.events).values() if not is_bot(s)]
    logs_source = [any(row["source_item_id"] for row in s) for s in sessions]
    assert 0.25 <= np.mean(logs_source) <= 0.5
    for session in sessions:
        seen: set[str | None] = set()
        for row in session:
            if row["source_item_id"]:
                assert row["event_type"] == "click"
                assert row["source_item_id"] in seen
                assert row["source_item_id"] != row["item_id"]
            seen.add(row["item_id"])


def test_searches_have_a_query_and_the_clicks_that_follow_carry_it(market: Market) -> None:
    searches = [row for row in market.events if row["event_type"] == "search"]
    assert all(row["query"] and row["item_id"] is None for row in searches)
    searched = followed = 0
    for session in by_session(market.events).values():
        for a, b in pairwise(session):
            if a["event_type"] == "search":
                searched += 1
                followed += b["query"] == a["query"] and b["item_id"] is not None
    assert followed > 0.85 * searched
    counts = Counter(" ".join(row["query"].casefold().split()) for row in searches)
    assert sum(n for n in counts.values() if n > 1) > 0.4 * len(searches)
    assert any(row["query"] != row["query"].strip() for row in searches)


def test_purchases_follow_carts_and_carts_follow_views(market: Market) -> None:
    purchases = 0
    for session in by_session(market.events).values():
        seen: dict[str, set[str]] = {"view": set(), "add_to_cart": set()}
        for row in session:
            if row["event_type"] == "purchase":
                purchases += 1
                assert row["item_id"] in seen["add_to_cart"]
            if row["event_type"] == "add_to_cart":
                assert row["item_id"] in seen["view"]
            kind = "add_to_cart" if row["event_type"] == "add_to_cart" else "view"
            seen[kind].add(row["item_id"])
    assert purchases > 100


def test_bots_open_hundreds_of_pages_without_a_user_id(market: Market) -> None:
    bots = [session for session in by_session(market.events).values() if is_bot(session)]
    assert len(bots) == SMALL.bot_sessions
    assert all(row["user_id"] is None and row["event_type"] == "view" for bot in bots for row in bot)
    assert max(len(bot) for bot in bots) > 150


def test_some_rows_are_duplicated(market: Market) -> None:
    ids = Counter(row["event_id"] for row in market.events)
    repeated = sum(n - 1 for n in ids.values())
    assert 0.003 * len(ids) <= repeated <= 0.007 * len(ids)


def test_the_log_has_every_kind_of_broken_row(market: Market) -> None:
    rows = market.all_events.to_pylist()
    assert sum(not is_valid(row) for row in rows) == SMALL.dirty_rows
    assert any(row["session_id"] is None for row in rows)
    assert any(row["timestamp"] is None for row in rows)
    assert any(row["event_type"] == "hover" for row in rows)
    assert any(row["item_id"] is None and row["event_type"] != "search" for row in rows)


def test_next_clicks_depend_on_more_than_category_and_popularity(market: Market) -> None:
    """More pairs of items from two categories share a style than after the second items are shuffled.

    Shuffling keeps the two categories and the number of clicks of each item, but breaks up the pairs.
    """
    style_of = {word: group for group, words in enumerate(STYLES) for word in words}
    category, style = {}, {}
    for row in market.items.to_pylist():
        category[row["item_id"]] = row["category"]
        style[row["item_id"]] = next((style_of[w] for w in row["title"].split() if w in style_of), None)
    groups = defaultdict(list)
    for row in market.events:
        a, b = row["source_item_id"], row["item_id"]
        if category.get(a) != category.get(b) and style.get(a) is not None and style.get(b) is not None:
            groups[category[a], category[b]].append((style[a], style[b]))
    rng = np.random.default_rng(0)
    hits, by_chance = 0, np.zeros(100)
    for group in groups.values():
        first, second = np.array(group).T
        hits += (first == second).sum()
        by_chance += [(first == rng.permutation(second)).sum() for _ in range(100)]
    assert hits > by_chance.mean() + 4 * by_chance.std()
