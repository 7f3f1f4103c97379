"""The days of a time zone: `[input] day_zone` says in which zone a day of the log begins and ends.

Stored days and held-out days are named by their dates in that zone. A day lasts from one midnight of the zone to the
next, even if a clock change makes it an hour shorter or longer.
"""

import datetime as dt
from zoneinfo import ZoneInfo

UTC = "UTC"
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def rules(zone: str) -> dt.tzinfo:
    """Return the rules of a time zone, as Python's `datetime` uses them.

    Args:
        zone: the name of the zone, such as Europe/Berlin.

    Raises:
        ValueError: there is no such zone.
    """
    if zone == UTC:
        return dt.UTC  # works on hosts without a table of time zones
    try:
        return ZoneInfo(zone)
    except (OSError, ValueError, KeyError):
        raise ValueError(
            f"{zone!r} is not the name of a time zone, such as Europe/Berlin or America/New_York, that this host knows"
        ) from None


def parse_date(text: str) -> dt.date:
    """Parse a date in one of the forms that logs use: 2026-03-14, 2026-3-14, 20260314, 2026-W11-6, 2026-073.

    Args:
        text: the date.

    Raises:
        ValueError: the text is no date.

    >>> parse_date("2026-3-4"), parse_date("2026-063")
    (datetime.date(2026, 3, 4), datetime.date(2026, 3, 4))
    """
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        form = "%Y-%m-%d" if text.count("-") == 2 else "%Y-%j"
        try:
            return dt.datetime.strptime(text, form).replace(tzinfo=dt.UTC).date()
        except ValueError:
            raise ValueError(f"got {text!r}, expected a date as YYYY-MM-DD") from None


def midnight(day: dt.date, zone: str) -> dt.datetime:
    """Return the time at which a day begins, in UTC.

    Args:
        day: the day.
        zone: the zone of the days.

    >>> midnight(dt.date(2026, 3, 30), "Europe/Berlin").isoformat()
    '2026-03-29T22:00:00+00:00'
    """
    return dt.datetime.combine(day, dt.time(), rules(zone)).astimezone(dt.UTC)


def microseconds(time: dt.datetime) -> int:
    """Return the microseconds from 1970 to a time, which must have a time zone."""
    return (time - _EPOCH) // dt.timedelta(microseconds=1)


def local_day(micros: int, zone: str) -> dt.date:
    """Return the day in which a time lies.

    Args:
        micros: microseconds since 1970.
        zone: the zone of the days.
    """
    return (_EPOCH + dt.timedelta(microseconds=micros)).astimezone(rules(zone)).date()
