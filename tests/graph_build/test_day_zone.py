"""Days of a time zone begin and end at its midnight, also when the clocks change."""

import datetime as dt

import pytest
from pydantic import ValidationError

from graph_build.config import InputConfig
from graph_build.day_zone import local_day, microseconds, midnight

HOUR = dt.timedelta(hours=1)


@pytest.mark.parametrize(
    ("zone", "day", "begins", "hours"),
    [
        ("UTC", dt.date(2026, 3, 29), "2026-03-29T00:00", 24),
        ("Europe/Berlin", dt.date(2026, 3, 28), "2026-03-27T23:00", 24),
        ("Europe/Berlin", dt.date(2026, 3, 29), "2026-03-28T23:00", 23),
        ("Europe/Berlin", dt.date(2026, 10, 25), "2026-10-24T22:00", 25),
        ("America/New_York", dt.date(2026, 3, 6), "2026-03-06T05:00", 24),
        ("Asia/Kolkata", dt.date(2026, 3, 6), "2026-03-05T18:30", 24),
        # The clocks go forward at midnight: the day begins at 1 o'clock.
        ("Africa/Cairo", dt.date(2026, 4, 24), "2026-04-23T22:00", 23),
    ],
)
def test_a_day_lasts_from_midnight_to_midnight(zone: str, day: dt.date, begins: str, hours: int) -> None:
    begin, end = midnight(day, zone), midnight(day + dt.timedelta(days=1), zone)
    assert begin == dt.datetime.fromisoformat(begins).replace(tzinfo=dt.UTC)
    assert (end - begin) / HOUR == hours
    assert local_day(microseconds(begin), zone) == local_day(microseconds(end) - 1, zone) == day
    assert local_day(microseconds(begin) - 1, zone) == day - dt.timedelta(days=1)


@pytest.mark.parametrize("zone", ["Mars/Base", "CET+1", "", "+02:00", "../etc/passwd"])
def test_an_unknown_zone_is_refused_by_its_name(zone: str) -> None:
    with pytest.raises(ValidationError, match="is not the name of a time zone"):
        InputConfig(day_zone=zone)
