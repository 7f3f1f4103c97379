"""What becomes of a log: transitions, sessions, co-search and edges against slow twins in plain Python."""

import datetime as dt
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import pytest

from graph_build.config import CoPurchaseConfig, CoSearchConfig, GraphConfig, StrongClickConfig
from graph_build.decay import ONE, AsOf, day_number
from graph_build.edges import co_search, combine, strong_click
from graph_build.ingest.query_text import normalise_query
from graph_build.sessions import rows as sessions
from tests.graph_build.conftest import at, event, events_of, item_names

Rows = list[dict[str, Any]]
OPENS = ("view", "click")


def random_log(seed: int) -> Rows:
    """Short sessions over few items: ties in time, repeats, searches, midnight, logged sources, baskets."""
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


def by_session(rows: Rows) -> dict[tuple[str, dt.date], Rows]:
    """Day-cut sessions in order, identical neighbours collapsed."""
    found: dict[tuple[str, dt.date], Rows] = defaultdict(list)
    for _, row in sorted(enumerate(rows), key=lambda pair: (pair[1]["timestamp"], pair[0])):
        mine = found[row["session_id"], row["timestamp"].date()]
        if not mine or mine[-1] != row:
            mine.append(row)
    return found


def with_segments(events: Rows) -> list[tuple[dict[str, Any], int]]:
    segment, last = 0, None
    found = []
    for row in events:
        query = normalise_query(row["query"])
        if row["event_type"] == "search" or (query is not None and query != last):
            segment += 1
        last = query if query is not None else last
        found.append((row, segment))
    return found


def slow_pairs(rows: Rows, config: StrongClickConfig) -> Counter[Any]:
    found: Counter[Any] = Counter()
    for mine in by_session(rows).values():
        best: dict[tuple[str, str], tuple[int, dt.datetime]] = {}
        if any(row["source_item_id"] for row in mine):
            links = [
                (row["source_item_id"], row["item_id"], 1, row["timestamp"])
                for row in mine
                if row["source_item_id"] and row["event_type"] in OPENS
            ]
        else:
            walk: list[tuple[str, dt.datetime, int]] = []
            for row, segment in with_segments(mine):
                again = walk and walk[-1][0] == row["item_id"] and walk[-1][2] == segment
                if row["event_type"] in OPENS and not again:
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
            found[src, dst, steps, time] += 1
    return found


def named(frame: Any, rows: Any) -> Rows:
    return [row.asDict(recursive=True) for row in combine.named(frame, item_names(rows)).collect()]


def directed(frame: Any, rows: Any, graph: str) -> dict[tuple[str, str], int]:
    """Pairs → (src, dst) → raw weight."""
    found = {}
    for row in named(frame, rows):
        for src, dst, way in ((row["low_id"], row["high_id"], "up"), (row["high_id"], row["low_id"], "down")):
            if row[f"{graph}_{way}"]:
                found[src, dst] = row[f"{graph}_{way}"]
    return found


@pytest.mark.parametrize("seed", [1, 2])
def test_strong_clicks_equal_their_slow_twin(put_together: Callable[..., Any], seed: int) -> None:
    rows = random_log(seed)
    config = StrongClickConfig(max_steps=3)
    found = strong_pairs(put_together(rows), config)
    got = Counter((row["src"], row["dst"], row["steps"], row["time"].replace(tzinfo=dt.UTC)) for row in found)
    assert got == slow_pairs(rows, config)


def strong_pairs(together: Any, config: StrongClickConfig) -> Rows:
    pairs = sessions.transitions(together, config, CoPurchaseConfig()).where("kind = 'strong_click'")
    return [row.asDict() for row in pairs.withColumn("time", utc("time")).collect()]


def utc(column: str) -> Any:
    from pyspark.sql import functions as F

    return F.to_timestamp_ntz(F.col(column).cast("string"))


@pytest.mark.parametrize("seed", [3])
def test_strong_click_weights_are_exact_sums_of_decayed_counts(put_together: Callable[..., Any], seed: int) -> None:
    rows = random_log(seed)
    config = GraphConfig(strong_click=StrongClickConfig(half_life_days=1.0, backward=0.25))
    together = put_together(rows)
    begins = at(600, day=1)
    held = sessions.HoldOut(round(begins.timestamp() * 1_000_000), -(2**63))
    last = at(0, day=2).date()
    as_of = AsOf(day_number(last), day_number(last) - 1)
    counts = strong_click.daily(together, held, config)
    weighed = strong_click.weigh(counts, as_of, config.strong_click)
    expected = {"full": slow_weights(rows, config.strong_click, last)}
    kept = [row for mine in by_session(rows).values() if mine[0]["timestamp"] < begins for row in mine]
    expected["fit"] = slow_weights(kept, config.strong_click, last - dt.timedelta(days=1))
    assert 0 < len(kept) < len(rows)
    for graph, weights in expected.items():
        assert directed(weighed, together, graph) == weights


def slow_weights(rows: Rows, config: StrongClickConfig, last: dt.date) -> dict[tuple[str, str], int]:
    expected: dict[tuple[str, str], int] = defaultdict(int)
    for (src, dst, steps, time), n in slow_pairs(rows, config).items():
        keep = 0.5 ** (last - time.date()).days
        expected[src, dst] += n * round(ONE * keep / steps)
        expected[dst, src] += n * round(ONE * keep * config.backward / steps)
    return expected


@pytest.mark.parametrize("seed", [4])
def test_co_search_counts_equal_their_slow_twin(put_together: Callable[..., Any], seed: int) -> None:
    rows = random_log(seed)
    groups: dict[Any, set[str]] = defaultdict(set)
    for (_, day), mine in by_session(rows).items():
        last = None
        for row in mine:
            if row["event_type"] == "search":
                last = normalise_query(row["query"])
            query = normalise_query(row["query"]) or last
            if row["event_type"] in OPENS and query is not None:
                groups[day, row["user_id"], query].add(row["item_id"])
    expected = Counter(
        (day, *pair) for (day, _, _), items in groups.items() for pair in itertools.permutations(items, 2)
    )
    together = put_together(rows)
    counted = co_search.daily(co_search.pairs(co_search.found(together, None), CoSearchConfig()))
    got = Counter()
    for row in named(counted, together):
        assert row["full"] == row["fit"]
        for pair in ((row["low_id"], row["high_id"]), (row["high_id"], row["low_id"])):
            got[dt.date(1970, 1, 1) + dt.timedelta(days=row["day"]), *pair] += row["full"]
    assert got == expected


def test_a_search_counts_at_most_its_cap(put_together: Callable[..., Any]) -> None:
    rows = [event("s", at(1), "search", query="x")]
    rows += [event("s", at(2 + i), "view", f"i{i}") for i in range(8)]
    found = co_search.found(put_together(rows), None)
    pairs = co_search.pairs(found, CoSearchConfig(max_items_per_search=3))
    assert co_search.daily(pairs).count() == 3
    assert co_search.cut_items(pairs, CoSearchConfig(max_items_per_search=3)) == 5


@pytest.mark.parametrize("seed", [5])
def test_sessions_list_what_was_opened_or_bought(put_together: Callable[..., Any], seed: int) -> None:
    rows = random_log(seed)
    expected = []
    for mine in by_session(rows).values():
        opened = [row["item_id"] for row in mine if row["event_type"] in OPENS]
        bought = [row["item_id"] for row in mine if row["item_id"] is not None]
        if opened:
            expected.append(("browse", [item for item, _ in itertools.groupby(opened)]))
        elif bought:
            expected.append(("basket", list(dict.fromkeys(bought))))
    lists = sessions.lists(put_together(rows), CoPurchaseConfig()).collect()
    assert sorted((row["kind"], row["items"]) for row in lists) == sorted(expected)
    assert all(len(row["times"]) == len(row["items"]) and row["times"] == sorted(row["times"]) for row in lists)


def test_each_item_of_a_basket_meets_a_bounded_number_of_others_equally(put_together: Callable[..., Any]) -> None:
    rows = [event("big", at(1), "purchase", f"i{i}") for i in range(10)]
    rows += [event("pair", at(1), "purchase", item) for item in ("x", "y", "x")]
    rows += [
        event("one", at(1), "purchase", "z"),
        event("seen", at(1), "view", "i1"),
        event("seen", at(2), "view", "i2"),
    ]
    rows += [event("seen", at(3), "purchase", "i1"), event("seen", at(3), "purchase", "i2")]
    pairs = sessions.transitions(put_together(rows), StrongClickConfig(), CoPurchaseConfig())
    found = pairs.where("kind = 'co_purchase'").collect()
    assert Counter(row["src"] for row in found if row["src"].startswith("i")) == {f"i{i}": 3 for i in range(10)}
    assert Counter(row["dst"] for row in found if row["dst"].startswith("i")) == {f"i{i}": 3 for i in range(10)}
    assert {(row["src"], row["dst"]) for row in found if row["src"] in "xyz"} == {("x", "y"), ("y", "x")}
    assert all(row["src"] != row["dst"] for row in found)


def test_bot_like_sessions_are_cut_at_their_cap(put_together: Callable[..., Any]) -> None:
    config = GraphConfig(strong_click=StrongClickConfig(max_session_items=4, max_steps=1))
    together = put_together([event("bot", at(i / 60), "view", f"i{i}") for i in range(9)], config)
    pairs = strong_pairs(together, config.strong_click)
    assert {(row["src"], row["dst"]) for row in pairs} == {("i0", "i1"), ("i1", "i2"), ("i2", "i3")}
    assert sessions.counts(together).capped["session_items"] == 5


def test_bots_that_log_their_sources_are_cut_too(put_together: Callable[..., Any]) -> None:
    config = GraphConfig(strong_click=StrongClickConfig(max_session_items=4))
    rows = [event("bot", at(i / 60), "click", f"i{i}", source_item_id="home") for i in range(9)]
    pairs = strong_pairs(put_together(rows, config), config.strong_click)
    assert {(row["src"], row["dst"]) for row in pairs} == {("home", f"i{i}") for i in range(4)}


def test_logged_sources_silence_the_guesses_of_their_session(put_together: Callable[..., Any]) -> None:
    rows = [
        event("s", at(1), "view", "a"),
        event("s", at(2), "view", "b"),
        event("s", at(3), "click", "c", source_item_id="a"),
        event("t", at(1), "view", "a"),
        event("t", at(2), "view", "b"),
    ]
    pairs = strong_pairs(put_together(rows), StrongClickConfig())
    assert sorted((row["src"], row["dst"], row["steps"]) for row in pairs) == [("a", "b", 1), ("a", "c", 1)]


def test_a_click_and_the_view_that_it_opens_count_once(put_together: Callable[..., Any]) -> None:
    rows = [
        event("s", at(1), "click", "a"),
        event("s", at(1.1), "view", "a"),
        event("s", at(2), "view", "a"),
        event("s", at(3), "view", "b"),
    ]
    counted = [event["counted"] for event in events_of(put_together(rows))]
    assert counted == [True, False, True, True]


@pytest.mark.parametrize("seed", range(3))
def test_quota_keeps_what_is_strong_for_either_end(spark: Any, seed: int) -> None:
    rng = random.Random(seed)
    pairs = {(rng.randrange(12), rng.randrange(12)) for _ in range(70)}
    rows = [(a, b, *(rng.randrange(4) for _ in range(4))) for a, b in sorted(pairs) if a < b]
    frame = spark.createDataFrame(
        rows, "low bigint, high bigint, full_up bigint, full_down bigint, fit_up bigint, fit_down bigint"
    )
    for quota in (1, 3):
        expected: set[tuple[int, int, int, int]] = set()
        for graph in (0, 1):
            of_it = [(row[0], row[1], row[2 + 2 * graph]) for row in rows]
            of_it += [(row[1], row[0], row[3 + 2 * graph]) for row in rows]
            for end, node in itertools.product((0, 1), range(12)):
                mine = [edge for edge in of_it if edge[end] == node and edge[2]]
                best = sorted(mine, key=lambda edge: (-edge[2], edge[1 - end]))[:quota]
                expected |= {(graph, *edge) for edge in best}
        kept = set()
        for row in combine.within_quota(frame, quota).collect():
            low, high, *raw = row
            for graph in (0, 1):
                kept |= {(graph, low, high, raw[2 * graph]), (graph, high, low, raw[2 * graph + 1])}
        assert {edge for edge in kept if edge[3]} == expected


def test_scales_bring_every_type_to_the_mean_of_the_strong_clicks() -> None:
    factors = combine.scales({"strong_click": (6 * ONE, 3), "swing": (50, 5)}, ONE)
    assert factors["strong_click"] * ONE == 1.0
    assert factors["swing"] * 50 / 5 == pytest.approx(2.0)
    assert combine.scales({"swing": (50, 5)}, ONE)["swing"] * 10 == pytest.approx(1.0)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_hold_out_is_the_last_sessions_that_reach_the_share(put_together: Callable[..., Any], share: float) -> None:
    rng = random.Random(8)
    rows = []
    for s in range(40):
        start = at(rng.choice([0, 0, 0, 30, 30.5]), day=rng.randrange(3))
        rows += [event(f"s{s}", start + dt.timedelta(seconds=i), "view", f"i{i}") for i in range(rng.randrange(1, 6))]
    together = put_together(rows)
    sizes = {(row["start"], row["session"]): row["counted"] for row in together.collect()}
    expected, total = set(), 0
    for key in sorted(sizes, reverse=True):
        if total < share * len(rows):
            expected.add(key[1])
            total += sizes[key]
    held = sessions.is_held(sessions.hold_out(together, share))
    assert {row["session"] for row in together.where(held).collect()} == expected


def test_the_hold_out_never_takes_every_session(put_together: Callable[..., Any]) -> None:
    together = put_together([event("s", at(i), "view", f"i{i}") for i in range(5)])
    assert sessions.hold_out(together, 0.9) is None
    assert sessions.hold_out(together, 0.0) is None
