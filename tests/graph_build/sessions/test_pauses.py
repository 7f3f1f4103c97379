"""Without session ids, a user's events are cut at long pauses as by a plain program, whatever their order."""

import datetime as dt
import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph_build.arrays import hash_text
from graph_build.config import GraphConfig, InputConfig
from graph_build.decay import day_number
from graph_build.ingest.arrow_reader import loose_events
from graph_build.ingest.arrow_values import ARROW_TYPES
from graph_build.ingest.contract import column_kinds
from graph_build.sessions.assemble import assemble_sessions
from graph_build.sessions.pauses import session_number
from jobs.pipeline.evaluation_events import read_events, sessions_of
from tests.graph_build.conftest import at, event, write_events
from tests.oracles.user_sessions import GAP, Key, Rows, cut_by_user, log_of_users

ZONES = ("UTC", "Europe/Berlin", "Asia/Kolkata")
GAP_MICROSECONDS = GAP // dt.timedelta(microseconds=1)


def micros(time: dt.datetime) -> int:
    return (time - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)


def arrow_rows(rows: Rows) -> pa.Table:
    """Return events as the Arrow reader returns them."""
    types = {name: ARROW_TYPES[kind] for name, kind in column_kinds("events").items()}
    columns = {name: pa.array([row.get(name) for row in rows], type_) for name, type_ in types.items()}
    places = {
        name: pa.array([n if name == "row" else 0 for n in range(len(rows))]) for name in ("file", "block", "row")
    }
    return pa.table(columns | places)


def assembled_by_arrow(rows: Rows, zone: str, only: int | None = None) -> list[dict[str, Any]]:
    loose = loose_events(arrow_rows(rows), zone)
    batches = assemble_sessions(loose, 10**6, 10**6, GAP_MICROSECONDS, only)
    return [row for batch in batches for row in batch.to_pylist()]


def expected_rows(sessions: dict[Key, Rows]) -> list[tuple[int, int, list[str]]]:
    """Return (day, start, items) of each session."""
    return sorted(
        (day_number(day), micros(start), [row["item_id"] for row in events])
        for (_, day, start), events in sessions.items()
    )


def read_rows(rows: list[Any]) -> list[tuple[int, int, list[str]]]:
    return sorted((row["day"], row["start"], list(row["item_id"])) for row in rows)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.sampled_from(ZONES))
def test_sessions_of_users_equal_those_of_a_plain_program_and_have_the_same_numbers_in_any_order(
    seed: int, zone: str
) -> None:
    rng = random.Random(seed)
    rows = log_of_users(rng, users=3, most_events=12)
    expected = cut_by_user(rows, zone)
    assembled = assembled_by_arrow(rows, zone)
    assert read_rows(assembled) == expected_rows(expected)
    numbers = {
        int(
            session_number(
                *(pa.array([part]).to_numpy() for part in (hash_text(user), day_number(day), micros(start)))
            )[0]
        )
        for user, day, start in expected
    }
    assert {row["session"] for row in assembled} == numbers
    assert {row["id"] for row in assembled} == {None}
    rng.shuffle(rows)
    again = assembled_by_arrow(rows, zone)
    # Events with the same time stand in the order of the file, unless a sequence says otherwise.
    assert {(row["session"], frozenset(row["item_id"])) for row in again} == {
        (row["session"], frozenset(row["item_id"])) for row in assembled
    }
    purchases = assembled_by_arrow(rows, zone, only=3)
    assert {row["session"] for row in purchases} <= numbers
    assert sum(len(row["item_id"]) for row in purchases) == sum(row["of_type"][3] for row in again)


@pytest.mark.parametrize(("pause", "n"), [(GAP, 1), (GAP + dt.timedelta(microseconds=1), 2)])
def test_a_pause_of_exactly_the_gap_ends_no_session(pause: dt.timedelta, n: int) -> None:
    rows = [event(None, at(600) + k * pause, "view", f"i{k}", user_id="u") for k in range(2)]
    assert len(assembled_by_arrow(rows, "UTC")) == n


def test_sessions_with_an_id_are_not_cut_and_rows_without_one_are_kept_apart() -> None:
    rows = [event("u", at(minute), "view", f"i{minute}", user_id="u") for minute in (0, 600)]
    rows += [event(None, at(minute), "view", f"j{minute}", user_id="u") for minute in (5, 600)]
    assert read_rows(assembled_by_arrow(rows, "UTC")) == sorted(
        (day_number(at(0).date()), micros(at(minute)), items)
        for minute, items in ((0, ["i0", "i600"]), (5, ["j5"]), (600, ["j600"]))
    )


def test_spark_and_the_evaluation_cut_the_sessions_of_a_plain_program(
    assembled: Callable[..., Any], tmp_path: Path
) -> None:
    zone = "Europe/Berlin"
    config = InputConfig.model_validate({"day_zone": zone})
    rows = log_of_users(random.Random(4), users=80, most_events=20)
    folder = tmp_path / "log"
    for n, part in enumerate((rows[:300], rows[300:])):
        path = write_events(folder / f"{n}.parquet", part)
        pq.write_table(pq.read_table(path).drop_columns(["session_id"]), path)
    expected = expected_rows(cut_by_user(rows, zone))
    of_graph = assembled(str(folder), GraphConfig(input=config)).collect()
    assert read_rows(of_graph) == expected
    assert len({row["session"] for row in of_graph}) == len(expected)
    events = read_events([str(folder)], config)
    of_test = sessions_of(events, config=config)
    viewed = [items for items in (viewed_items(events) for events in cut_by_user(rows, zone).values()) if items]
    ends = of_test.offsets.tolist()
    assert sorted(viewed) == sorted(of_test.item_ids.to_pylist()[a:b] for a, b in itertools.pairwise(ends))
    reordered = write_events(tmp_path / "other.parquet", rows[::-1])
    ids = [
        set(sessions_of(read_events([path], config), "basket").session_ids.to_pylist())
        for path in (str(folder), reordered)
    ]
    assert ids[0] == ids[1]
    assert ids[0]


def viewed_items(events: Rows) -> list[str]:
    return [row["item_id"] for row in events if row["event_type"] in ("view", "click")]
