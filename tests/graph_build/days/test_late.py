"""Late rows of users without session ids: nothing doubles, and every event that is refused or lost is reported."""

import datetime as dt
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from graph_build.build import GraphInputs, build_graphs
from graph_build.config import GraphConfig
from graph_build.days.days_file import read_days_file
from graph_build.days.forget import forget
from graph_build.days.late import compare, not_delivered
from graph_build.days.store import stored_days
from graph_build.errors import GraphInputError
from tests.graph_build.conftest import at, event, sorted_tables
from tests.graph_build.days.conftest import date_of, day_log
from tests.oracles.user_sessions import GAP, Rows, cut_by_user, log_of_users

LONGEST_PAUSE = GAP // dt.timedelta(microseconds=1)


def without_ids(rows: Rows) -> Rows:
    return [row | {"session_id": None} for row in rows]


def visit(user: str, *minutes: float, day: int = 0) -> Rows:
    """Return views of a user; each opens an item of its own."""
    return [event(None, at(minute, day=day), "view", f"{user}{minute:g}", user_id=user) for minute in minutes]


def events_of(rows: Any) -> dict[int, set[tuple[int, str]]]:
    """Return the events of each session as pairs of time and item."""
    return {row["session"]: set(zip(row["time"], row["item_id"], strict=True)) for row in rows.collect()}


@pytest.mark.slow
@pytest.mark.thorough
def test_late_and_stray_sessions_meet_stored_ones_as_a_plain_program_says(assembled: Callable[..., Any]) -> None:
    rng = random.Random(5)
    log = [row for row in log_of_users(rng, users=150, most_events=10) if row["event_id"] is None]
    # Most events come once, some twice. For half of the users, all events come the first time.
    whole = {user for user in {row["user_id"] for row in log} if rng.random() < 0.5}
    before = [row for row in log if row["user_id"] in whole or rng.random() < 0.6]
    late = [row for row in log if row not in before or rng.random() < 0.3]
    stored, delivered = assembled(before), assembled(late)
    numbers = {(row["day"], row["start"], tuple(row["item_id"])): row["session"] for row in delivered.collect()}
    states: dict[str, set[int]] = {"new": set(), "known": set(), "conflict": set()}
    of_stored = cut_by_user(before)
    for (user, day, start), events in cut_by_user(late).items():
        met = [
            other
            for (owner, date, begin), other in of_stored.items()
            if (owner, date) == (user, day)
            and start - other[-1]["timestamp"] <= GAP
            and begin - events[-1]["timestamp"] <= GAP
        ]
        state = (
            "new" if not met else "known" if any(all(row in other for row in events) for other in met) else "conflict"
        )
        key = ((day - dt.date(1970, 1, 1)).days, micros(start), tuple(row["item_id"] for row in events))
        states[state].add(numbers[key])
    assert all(states.values())
    comparison = compare(delivered, stored, LONGEST_PAUSE)
    assert comparison.unstored is not None
    assert comparison.conflicts is not None
    assert {row[0] for row in comparison.unstored.collect()} == states["new"]
    assert {row["session"] for row in comparison.conflicts.collect()} == states["conflict"]
    assert comparison.known == len(states["known"])
    # If the late rows are the day's own log, the stored rows are strays, and every event that is lost is counted.
    stays, goes = not_delivered(stored, delivered, LONGEST_PAUSE)
    left, lost = events_of(stays), {row["session"]: row["lost"] for row in goes.collect()}
    came = set().union(*events_of(delivered).values())
    for session, events in events_of(stored).items():
        assert session not in left or not events & came, "nothing doubles"
        assert (lost.get(session, 0) > 0) == (session not in left and not events <= came)
    assert lost
    assert left


def micros(time: dt.datetime) -> int:
    return (time - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)


def stored_items(root: str) -> dict[int, int]:
    days = read_days_file(root).days
    return {n: days[date_of(n)].events for n in range(3) if date_of(n) in days}


@pytest.mark.slow
def test_late_rows_of_users_are_added_where_they_prolong_no_stored_session_and_refused_where_they_do(
    spark: Any, store: Callable[..., Any], root: str, built: Callable[..., Any], tmp_path: Path
) -> None:
    first = [*without_ids(day_log(0, sessions=8)), *visit("x", 100, 110), *visit("y", 100)]
    second = without_ids(day_log(1, sessions=8))
    apart = [*visit("x", 69, 141), *visit("z", 5)]
    store(first, name=str(date_of(0)))
    before = stored_items(root)[0]
    assert store([*apart, *second], name=str(date_of(1))).refused == {}
    assert stored_items(root)[0] == before + 3
    build_graphs(spark, GraphInputs(days=root), str(tmp_path / "night"), GraphConfig())
    _, from_log = built([*first, *apart, *second])
    assert sorted_tables(tmp_path / "night") == sorted_tables(from_log)
    # A part of a stored session that is sent again doubles nothing. A session that prolongs a stored one is refused.
    part, longer = visit("x", 110), visit("y", 100, 130)
    result = store([*part, *longer, *apart[:1], *second], name=str(date_of(1)))
    assert stored_items(root)[0] == before + 3
    assert result.already_stored == 2
    assert result.refused == {"session_stored": 2}
    with pytest.raises(GraphInputError, match=rf"session_stored.*--day {date_of(0)}"):
        store(longer, name="more")
    # If the day is named, all of its files together replace it.
    assert store([*first, *apart, *longer[1:]], 0).refused == {}
    assert stored_items(root)[0] == before + 4


@pytest.mark.slow
def test_stray_rows_of_users_give_way_to_the_days_own_log_and_lost_events_are_told(
    store: Callable[..., Any], root: str, built: Callable[..., Any]
) -> None:
    stray = [*visit("a", 1, day=1), *visit("b", 1, day=1), *visit("c", 1, 2, day=1), *visit("d", 1, day=1)]
    store([*without_ids(day_log(0, sessions=8)), *stray], name=str(date_of(0)))
    # The day's own log has a's stray session with more events, continues b's without its event, has only a part of c's,
    # and has nothing near d's.
    own = [*visit("a", 0, 1, 3, day=1), *visit("b", 5, day=1), *visit("c", 2, 4, day=1), *visit("d", 90, day=1)]
    result = store(own, name=str(date_of(1)))
    assert stored_items(root)[1] == len(own) + 2
    (doubt,) = result.doubts
    assert doubt.startswith(f"{date_of(1)}: 1 events that came with the files of another day are left out")
    assert f"--day {date_of(1)}" in doubt
    everything = [*stray, *(row for row in own if row not in stray)]
    assert store(everything, 1).doubts == []
    assert stored_items(root)[1] == len(everything)


@pytest.mark.slow
def test_users_without_session_ids_are_forgotten_with_their_refused_rows(
    spark: Any, store: Callable[..., Any], root: str
) -> None:
    store([*visit("x", 1, 2), *visit("y", 3, 100)], name=str(date_of(0)))
    late = store([*visit("x", 5), *visit("z", 5), *visit("w", 1, day=1)], name=str(date_of(1)))
    assert late.refused == {"session_stored": 1}
    result = forget(spark, ["x"], root, GraphConfig())
    assert (result.sessions, result.refused) == (1, 1)
    items = {item for row in stored_days(root, GraphConfig()).rows(spark).collect() for item in row["item_id"]}
    assert items == {"y3", "y100", "z5", "w1"}
    rows = [
        json.loads(row["row"])
        for part in Path(root).glob("*/quarantine/day=*")
        for row in pq.read_table(part).to_pylist()
    ]
    assert rows == []


@pytest.mark.slow
def test_another_gap_needs_another_store(store: Callable[..., Any], root: str) -> None:
    store(visit("x", 1, 2), 0)
    config = GraphConfig.model_validate({"input": {"events": {"session_gap": 10}}})
    with pytest.raises(GraphInputError, match="session_gap"):
        store(visit("x", 1, 2), 0, config=config)
