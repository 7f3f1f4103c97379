"""The graph reads a log with Spark and the evaluation reads it with Arrow; both get the same sessions."""

import datetime as dt
from collections.abc import Callable
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from graph_build.config import CoPurchaseConfig, GraphConfig
from graph_build.decay import day_number
from graph_build.sessions.rows import session_lists
from jobs.pipeline.evaluation_events import read_events, sessions_of
from retrieval.evaluation.sessions import Sessions
from tests.graph_build.conftest import at, event, write_events

LOG = [
    # The rows of the file are not in the order of their times.
    event("a", at(9), "view", "late"),
    event("a", at(1), "search", query="Boots"),
    event("a", at(2), "view", "tie 1", sequence=2),
    event("a", at(2), "click", "tie 0", sequence=1),
    event("a", at(2), "view", "tie 0", sequence=3),
    # A click and the view that it opens count once, and so do identical rows.
    event("a", at(3), "click", "opened"),
    event("a", at(4), "view", "opened"),
    event("a", at(4), "view", "opened"),
    # A later view of the same item counts again, but the graph's list of items leaves out such repeats.
    event("a", at(5), "view", "opened"),
    event("a", at(6), "purchase", "opened"),
    event("a", at(7), "purchase", "late"),
    # An event_id counts once, wherever it stands. A click that was logged with and without its request is merged.
    event("b", at(1), "view", "x", event_id="1"),
    event("b", at(3), "view", "y", event_id="2"),
    event("b", at(1), "view", "x", event_id="1"),
    event("b", at(5), "click", "z", request_id="r"),
    event("b", at(5), "view", "y"),
    event("b", at(5), "click", "z"),
    # A session ends at midnight.
    event("c", at(1439), "view", "before"),
    event("c", at(1441), "view", "after"),
    event("c", at(1442), "view", "after that"),
    # A basket holds each item once, and ends at midnight, too.
    event("d", at(1), "purchase", "p"),
    event("d", at(2), "purchase", "q"),
    event("d", at(3), "purchase", "p"),
    event("d", at(1, day=1), "purchase", "p"),
    # Refused events, a session with one item left, and a session with only an impression.
    event("e", None, "view", "x"),
    event("e", at(1), "search"),
    event("e", at(2), "view", "x"),
    event("f", at(1), "impression", "x"),
]


# Views around midnight, in Berlin and UTC, in nights when the clocks of Berlin go forward and back.
CLOCKS_CHANGE = [
    event("s", time, "view", f"i{n}")
    for n, time in enumerate(
        dt.datetime.fromisoformat(f"{text}+00:00")
        for text in (
            "2026-03-28T22:59:59",
            "2026-03-28T23:00:00",
            "2026-03-29T00:30:00",
            "2026-03-29T21:59:00",
            "2026-03-29T22:00:00",
            "2026-03-30T00:30:00",
            "2026-10-24T21:59:00",
            "2026-10-24T22:00:00",
            "2026-10-25T22:59:00",
            "2026-10-25T23:00:00",
        )
    )
]


def lists(sessions: Sessions) -> list[tuple[list[str], list[int]]]:
    """Return (items, times) of each session."""
    ends = sessions.offsets.tolist()
    items, times = sessions.item_ids.to_pylist(), sessions.times.tolist()
    return [(items[a:b], times[a:b]) for a, b in pairwise(ends)]


def without_repeats(items: list[str], times: list[int]) -> tuple[list[str], list[int]]:
    runs = [next(run) for _, run in groupby(zip(items, times, strict=True), key=lambda pair: pair[0])]
    return [item for item, _ in runs], [time for _, time in runs]


def test_the_graph_and_the_evaluation_have_the_same_sessions(assembled: Callable[..., Any], tmp_path: Any) -> None:
    path = write_events(tmp_path / "log.parquet", LOG)
    rows = session_lists(assembled(path), CoPurchaseConfig()).collect()
    of_graph = {
        kind: sorted(
            (row["items"], [round(time.timestamp() * 1e6) for time in row["times"]])
            for row in rows
            if row["kind"] == kind
        )
        for kind in ("browse", "basket")
    }
    events = read_events([path], GraphConfig().input)
    browsing = sessions_of(events)
    assert [items for items, _ in lists(browsing)] == [
        ["tie 0", "tie 1", "tie 0", "opened", "opened", "late"],
        ["x", "y", "z", "y"],
        ["before"],
        ["after", "after that"],
        ["x"],
    ]
    assert browsing.session_ids.to_pylist() == ["a", "b", "c", "c", "e"]
    assert sorted(without_repeats(*session) for session in lists(browsing)) == of_graph["browse"]
    # The evaluation also takes baskets from sessions with views, and a basket needs two items or more.
    baskets = lists(sessions_of(events, "basket"))
    assert [items for items, _ in baskets] == [["opened", "late"], ["p", "q"]]
    assert baskets[1] in of_graph["basket"]
    assert [items for items, _ in of_graph["basket"]] == [["p"], ["p", "q"]]


def test_the_order_of_the_files_does_not_matter(tmp_path: Any) -> None:
    timed = [row for row in LOG if row["timestamp"] is not None]
    path = write_events(tmp_path / "log.parquet", timed)
    folder = tmp_path / "folder"
    for hour, name in enumerate(("b", "a")):
        write_events(folder / f"{name}.parquet", [row for row in timed if (row["session_id"] < "c") == bool(hour)])
    from_file, from_folder = (read_events([str(log)], GraphConfig().input) for log in (path, folder))
    assert pq.read_metadata(path).num_rows == len(timed)
    assert sorted(lists(sessions_of(from_file))) == sorted(lists(sessions_of(from_folder)))


def test_both_readers_cut_days_in_the_same_zone(assembled: Callable[..., Any], tmp_path: Path) -> None:
    config = GraphConfig.model_validate({"input": {"day_zone": "Europe/Berlin"}})
    rows = assembled(CLOCKS_CHANGE, config)
    of_graph = sorted((row["day"], row["item_id"]) for row in rows.collect())
    days = ["2026-03-28", "2026-03-29", "2026-03-30", "2026-10-24", "2026-10-25", "2026-10-26"]
    items = [["i0"], ["i1", "i2", "i3"], ["i4", "i5"], ["i6"], ["i7", "i8"], ["i9"]]
    numbers = [day_number(dt.date.fromisoformat(day)) for day in days]
    assert of_graph == list(zip(numbers, items, strict=True))
    events = read_events([write_events(tmp_path / "e.parquet", CLOCKS_CHANGE)], config.input)
    of_test = lists(sessions_of(events, config=config.input))
    assert sorted(names for names, _ in of_test) == sorted(items)
