"""Which days an input claims, and what an ingest does with each of them."""

import datetime as dt

import pytest

from graph_build.days.claims import Action, Claims, DayInput, days_in_paths
from graph_build.days.days_file import StoredDay
from graph_build.errors import GraphInputError

DAY, NEXT = dt.date(2026, 3, 6), dt.date(2026, 3, 7)


def claims(by_path: set[dt.date] | None = None, asked: set[dt.date] | None = None, force: bool = False) -> Claims:
    return Claims(None if asked is None else frozenset(asked), frozenset(by_path or ()), 0.8, force)


def stored(events: int, whole: bool = True) -> StoredDay:
    return StoredDay("f", events, 0, 0, 0, [], whole=whole)


@pytest.mark.parametrize(
    ("path", "files", "days"),
    [
        ("/log/2026-03-06.parquet", [], {DAY}),
        ("/log/2026-03-06", ["/log/2026-03-06/part-0.parquet"], {DAY}),
        ("/log/date=2026-03-06/part-0.parquet", [], {DAY}),
        ("/log", ["/log/date=2026-03-06/a.parquet", "/log/date=2026-03-07/a.parquet"], {DAY, NEXT}),
        ("/log/events_20260306.csv.gz", [], {DAY}),
        ("s3://bucket/events/2026-03-06/", [], {DAY}),
        ("/backup-2025-01-01/log/events.parquet", [], set()),
        ("/log/events.parquet", [], set()),
        ("/log/part-20269999.parquet", [], set()),
        ("/log/part-1202603061.parquet", [], set()),
        ("/log/2026-02-30.parquet", [], set()),
    ],
)
def test_the_days_of_an_input_are_those_in_the_names_of_its_files_and_folders(
    path: str, files: list[str], days: set[dt.date]
) -> None:
    assert days_in_paths([path], {path: files}) == days


def test_a_day_that_is_not_stored_is_stored_and_is_whole_unless_the_input_names_other_days() -> None:
    assert claims().action(DAY, DayInput(3), None) is Action.STORE
    assert claims().whole(DAY)
    assert claims({NEXT}).action(DAY, DayInput(3), None) is Action.STORE
    assert not claims({NEXT}).whole(DAY)
    assert claims({NEXT}).whole(NEXT)
    assert claims({NEXT}).whole(DAY, stored(500)), "it was delivered again, beside another day"
    assert not claims({NEXT}).whole(DAY, stored(3, whole=False))


def test_a_stored_day_is_extended_by_rows_that_come_late_and_replaced_by_its_sessions_sent_again() -> None:
    for by_path in (set(), {NEXT}):
        assert claims(by_path).action(DAY, DayInput(2, 0.0), stored(500)) is Action.EXTEND
        assert claims(by_path).action(DAY, DayInput(450, 0.1), stored(500)) is Action.EXTEND, "other sessions"
        assert claims(by_path).action(DAY, DayInput(300, 1.0), stored(500)) is Action.EXTEND, "shorter sessions"
        assert claims(by_path).action(DAY, DayInput(499, 0.9), stored(500)) is Action.REPLACE


def test_a_claim_that_would_lose_a_share_of_the_day_stops_unless_it_is_forced() -> None:
    with pytest.raises(GraphInputError, match="holds 399 events of 2026-03-06, which is stored with 500 events"):
        claims({DAY}).action(DAY, DayInput(399, 1.0), stored(500))
    with pytest.raises(GraphInputError, match="holds 10% of the stored sessions of 2026-03-06"):
        claims({DAY}).action(DAY, DayInput(500, 0.1), stored(500))  # e.g. another hour of the day
    with pytest.raises(GraphInputError, match="--force"):
        claims(asked={DAY}).action(DAY, DayInput(399), stored(500))
    assert claims(asked={DAY}).action(DAY, DayInput(400), stored(500)) is Action.REPLACE
    assert claims(asked={DAY}, force=True).action(DAY, DayInput(1), stored(500)) is Action.REPLACE
    assert claims({DAY}, force=True).action(DAY, DayInput(1), stored(500)) is Action.REPLACE
    assert claims({NEXT}, force=True).action(DAY, DayInput(1), stored(500)) is Action.EXTEND, "it is not claimed"


def test_the_log_of_a_day_completes_the_stray_rows_of_it_that_came_before() -> None:
    assert claims({DAY}).action(DAY, DayInput(500), stored(3, whole=False)) is Action.COMPLETE
    assert claims(asked={DAY}).action(DAY, DayInput(500), stored(3, whole=False)) is Action.COMPLETE
