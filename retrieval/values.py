"""Reads ids, texts and times in requests, queries and changes, exactly as the graph build reads them in tables.

One golden file tests both implementations.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = 86_400_000_000
# Python's calendar, the years 1 to 9999, in µs since 1970: from FIRST_TIME up to but not including END_OF_TIMES.
FIRST_TIME, END_OF_TIMES = -62_135_596_800_000_000, 253_402_300_800_000_000
# An ad that starts before 1900 has no start, and one that ends in or after the year 3000 has no end.
NO_START_BEFORE, NO_END_FROM = -2_208_988_800_000_000, 32_503_680_000_000_000
A_TIME = "expected an ISO 8601 time, e.g. 2026-03-14T09:30:00Z"

_BLANKS = (
    " \t\n\v\f\r\0\x85\xa0\u1680\u180e\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u200b\u200c"
    "\u200d\u200e\u200f\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
)
_DATE = (
    r"(?P<year>\d{4})(?:(?P<dash>-?)(?:(?P<month>\d\d)(?P=dash)(?P<day>\d\d)|W(?P<week>\d\d)(?P=dash)(?P<weekday>[1-7]))"
    r"|-(?P<loose_month>\d{1,2})-(?P<loose_day>\d{1,2})|-(?P<ordinal>\d{3}))"
)
_CLOCK = (
    r"(?P<hour>\d{1,2})(?::(?P<minute>\d{1,2})(?::(?P<second>\d{1,2})(?:[.,](?P<fraction>\d*))?)?)?"
    r"|(?P<basic_hour>\d\d)(?P<basic_minute>\d\d)(?:(?P<basic_second>\d\d)(?:[.,](?P<basic_fraction>\d*))?)?"
)
_ZONE = r"(?i:Z|UTC|GMT)|(?i:UTC|GMT)?[+-](?:\d{1,2}|\d{1,2}:\d{2}|\d{4})|[A-Z][A-Za-z_]+(?:/[\w+-]+)+"
_TIME = re.compile(rf"{_DATE}(?:[Tt ](?:{_CLOCK})(?: ?(?P<zone>{_ZONE})(?:\[[\w/+-]+\])?)?)?", re.ASCII)
_OFFSET = re.compile(r"(?:UTC|GMT)?([+-])(\d{1,2}):?(\d{2})?", re.IGNORECASE)
_LARGEST_OFFSET = 18 * 60  # minutes
# No region has a longer name than this; a longer name is not looked up, and so not cached.
_LONGEST_ZONE = 100


def clean_text(text: str) -> str | None:
    """Return an id or a text composed (NFC) and without the blanks around it; None if nothing is left.

    >>> clean_text(" cafe\u0301\t")
    'café'
    """
    return unicodedata.normalize("NFC", text.strip(_BLANKS)) or None


def parse_time(text: str) -> int | None:
    """Return a written time as µs since 1970 in UTC; None if the text is no time. No zone means UTC.

    The time may lie outside the calendar (`FIRST_TIME` to `END_OF_TIMES`).

    >>> parse_time("1970-01-01T01:00:00+00:30"), parse_time("19700102"), parse_time("86400")
    (1800000000, 86400000000, None)
    """
    match = _TIME.fullmatch(text.strip(_BLANKS))
    if match is None:
        return None
    part = {name: value for name, value in match.groupdict().items() if value}
    day = _day(part)
    hour, minute, second = (
        int(part.get(name) or part.get(f"basic_{name}") or 0) for name in ("hour", "minute", "second")
    )
    fraction = part.get("fraction") or part.get("basic_fraction") or ""
    is_leap = second == 60
    clock = ((hour * 60 + minute) * 60 + second - is_leap) * 1_000_000 + int(f"{fraction:0<6.6}")
    is_clock = (hour <= 23 and minute <= 59 and second <= 60) or clock == hour * 3_600_000_000 == _DAY
    if day is None or not is_clock:
        return None
    time = day * _DAY + clock
    offset = _offset(part.get("zone", ""), time)
    if offset is None:
        return None
    # A leap second is read as the second before it, which must be the last of a UTC day.
    if is_leap and (time - offset) // 1_000_000 % 86_400 != 86_399:
        return None
    return time - offset


def to_datetime(time: int) -> datetime:
    """Return µs since 1970 as a datetime in UTC.

    Raises:
        OverflowError: the time lies outside the calendar.
    """
    return _EPOCH + timedelta(microseconds=time)


def _day(part: dict[str, str]) -> int | None:
    """Return the days since 1970 of a calendar, week or ordinal date; None if there is no such day."""
    # The calendar repeats after 400 years, so the year 0, which Python does not know, is computed as the year 400.
    year = int(part["year"])
    shift = 146_097 if year < 1 else 0
    year += 400 if shift else 0
    try:
        if "week" in part:
            monday = date.fromisocalendar(year, int(part["week"]), 1)
            day = monday.toordinal() + int(part["weekday"]) - 1
        elif "ordinal" in part:
            day = date(year, 1, 1).toordinal() + int(part["ordinal"]) - 1
            if day < date(year, 1, 1).toordinal() or day > date(year, 12, 31).toordinal():
                return None
        else:
            month, number = part.get("month") or part["loose_month"], part.get("day") or part["loose_day"]
            day = date(year, int(month), int(number)).toordinal()
    except ValueError:
        return None
    return day - _EPOCH.toordinal() - shift


@lru_cache(maxsize=256)
def _zone(name: str) -> int | ZoneInfo | None:
    """Return what a written zone stands for: an offset in µs, or the rules of a region; None if it is unknown."""
    if name.upper() in ("", "Z", "UTC", "GMT"):
        return 0
    if match := _OFFSET.fullmatch(name):
        minutes = 60 * int(match[2]) + int(match[3] or 0)
        if int(match[3] or 0) > 59 or minutes > _LARGEST_OFFSET:
            return None
        return (-minutes if match[1] == "-" else minutes) * 60_000_000
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # the region is not known, or the host has no table of regions
        return None


def _offset(name: str, local: int) -> int | None:
    """Return a local time's offset in µs, the first one if the time occurs twice; None if the zone is unknown."""
    zone = _zone(name) if len(name) <= _LONGEST_ZONE else None
    if not isinstance(zone, ZoneInfo):
        return zone
    if not FIRST_TIME <= local < END_OF_TIMES:
        return 0
    offset = to_datetime(local).replace(tzinfo=zone).utcoffset() or timedelta()
    return offset // timedelta(microseconds=1)
