"""A second reader of written times that uses Python's own calendar step by step: slow, but obviously right."""

import datetime as dt
import random
import re
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
BLANKS = " \t\n\v\f\r\0\x85\xa0\u1680\u180e\u2028\u2029\u202f\u205f\u2060\u3000\ufeff" + "".join(
    map(chr, range(0x2000, 0x2010))
)


def read_time(text: str) -> int | None:
    """Return a written time in microseconds since 1970, UTC; None for no time, or one outside the years 1 to 9999."""
    text = text.strip(BLANKS)
    date, separator, rest = text, "", ""
    for n, character in enumerate(text):
        if character in "Tt ":
            date, separator, rest = text[:n], character, text[n + 1 :]
            break
    days = _days(date)
    clock = _clock(rest) if separator else (0, False, "")
    if days is None or clock is None:
        return None
    time_of_day, is_leap, zone = clock
    local = days * 86_400_000_000 + time_of_day
    offset = _offset(zone, local)
    if offset is None or (is_leap and (local - offset) // 1_000_000 % 86_400 != 86_399):
        return None
    last = (dt.datetime.max.replace(tzinfo=dt.UTC) - EPOCH) // dt.timedelta(microseconds=1)
    first = (dt.datetime.min.replace(tzinfo=dt.UTC) - EPOCH) // dt.timedelta(microseconds=1)
    return local - offset if first <= local - offset <= last else None


def _days(date: str) -> int | None:
    try:
        if re.fullmatch(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}", date):
            day = dt.date(*map(int, date.split("-")))
        elif re.fullmatch(r"[0-9]{8}", date):
            day = dt.date(int(date[:4]), int(date[4:6]), int(date[6:]))
        elif re.fullmatch(r"[0-9]{4}-[0-9]{3}", date):
            day = dt.date(int(date[:4]), 1, 1) + dt.timedelta(days=int(date[5:]) - 1)
            if day.year != int(date[:4]):
                return None
        elif re.fullmatch(r"[0-9]{4}(-W[0-9]{2}-|W[0-9]{2})[0-9]", date):
            digits = re.sub(r"\D", "", date)
            day = dt.date.fromisocalendar(int(digits[:4]), int(digits[4:6]), int(digits[6]))
        else:
            return None
    except (ValueError, OverflowError):
        return None
    return day.toordinal() - dt.date(1970, 1, 1).toordinal()


def _clock(text: str) -> tuple[int, bool, str] | None:
    """Return the time of day in microseconds, whether it is in a leap second, and the zone."""
    extended = re.match(r"([0-9]{1,2})(?::([0-9]{1,2})(?::([0-9]{1,2})(?:[.,]([0-9]*))?)?)?(?![0-9:.,])", text)
    basic = re.match(r"([0-9]{2})([0-9]{2})(?:([0-9]{2})(?:[.,]([0-9]*))?)?(?![0-9:.,])", text)
    match = extended or basic
    if match is None:
        return None
    hour, minute, second = (int(match[n] or 0) for n in (1, 2, 3))
    micros = int((match[4] or "")[:6].ljust(6, "0"))
    is_leap = second == 60
    second = 59 if is_leap else second
    is_midnight = hour == 24 and minute == second == micros == 0
    if not is_midnight and (hour > 23 or minute > 59 or second > 59):
        return None
    zone = text[match.end() :]
    return ((hour * 60 + minute) * 60 + second) * 1_000_000 + micros, is_leap, zone.removeprefix(" ") or zone


def _offset(zone: str, local: int) -> int | None:
    """Return the offset of a zone in microseconds; None if the text is no zone."""
    if match := re.fullmatch(r"(.*)\[[A-Za-z0-9_/+-]+\]", zone):
        return _offset(match[1], local) if "/" not in match[1] and match[1] else None
    if zone.upper() in ("", "Z", "UTC", "GMT"):
        return 0
    if match := re.fullmatch(r"(?i:UTC|GMT)?([+-])(?:([0-9]{1,2})(?::([0-9]{2}))?|([0-9]{2})([0-9]{2}))", zone):
        hours, minutes = int(match[2] or match[4]), int(match[3] or match[5] or 0)
        if minutes > 59 or hours * 60 + minutes > 18 * 60:
            return None
        return (-1 if match[1] == "-" else 1) * (hours * 60 + minutes) * 60_000_000
    if zone in REGIONS:
        try:
            time = (EPOCH + dt.timedelta(microseconds=local)).replace(tzinfo=ZoneInfo(zone))
            return (time.utcoffset() or dt.timedelta()) // dt.timedelta(microseconds=1)
        except OverflowError:
            return 0
    return None


REGIONS = ("Europe/Berlin", "America/New_York", "America/Argentina/Buenos_Aires", "Asia/Kolkata", "Etc/GMT+5")
_ZONES = (
    "", "", "Z", "z", " UTC", "utc", " GMT", "+02", "+0200", "+02:00", " +2", "-0530", "+18:00", "-18:00", "+18:01",
    "+5:30", "+200", "+05:60", "UTC+2", "gmt-03:30", "BST", " Middle/Nowhere", "Z[UTC]", "+01:00[Europe/Berlin]",
    "[UTC]", "Zz",
    *REGIONS, *(f" {region}" for region in REGIONS),
)  # fmt: skip


def written_times() -> st.SearchStrategy[str]:
    """Return a strategy of texts that are times or nearly times."""
    number = st.integers(0, 99)
    year = st.one_of(st.integers(1960, 2040), st.sampled_from([0, 1, 4, 1582, 1900, 2000, 2016, 9998, 9999]))
    dates = st.one_of(
        st.builds("{:04d}-{:02d}-{:02d}".format, year, st.integers(0, 13), st.integers(0, 32)),
        st.builds("{:04d}-{}-{}".format, year, st.integers(0, 13), st.integers(0, 32)),
        st.builds("{:04d}{:02d}{:02d}".format, year, st.integers(0, 13), st.integers(0, 32)),
        st.builds("{:04d}-{:03d}".format, year, st.integers(0, 370)),
        st.builds("{:04d}-W{:02d}-{}".format, year, st.integers(0, 54), st.integers(0, 8)),
        st.builds("{:04d}W{:02d}{}".format, year, st.integers(0, 54), st.integers(0, 8)),
        st.text("0123456789-W", max_size=9),
    )
    fraction = st.one_of(
        st.just(""), st.builds("{}{}".format, st.sampled_from(".,"), st.text("0123456789", max_size=25))
    )
    hour, minute = st.integers(0, 25), st.sampled_from([0, 1, 29, 30, 58, 59, 60])
    clocks = st.one_of(
        st.builds("{:02d}".format, hour),
        st.builds("{}:{}".format, hour, minute),
        st.builds("{:02d}:{:02d}:{:02d}{}".format, hour, minute, minute, fraction),
        st.builds("{:02d}{:02d}".format, hour, minute),
        st.builds("{:02d}{:02d}{:02d}{}".format, hour, minute, minute, fraction),
        st.builds("{}:{}:{}{}".format, hour, number, number, fraction),
        st.sampled_from(["24:00", "240000", "24:00:00.000", "23:59:60", "235960.5", "12:00:", "1200:00", "12.5"]),
    )
    rest = st.builds("{}{}{}".format, st.sampled_from("Tt "), clocks, st.sampled_from(_ZONES))
    around = st.sampled_from(["", "", "", " ", "\t", "\xa0", "\r", "\ufeff"])
    return st.builds("{}{}{}{}".format, around, dates, st.one_of(st.just(""), rest, rest), around)


def sampled_times(n: int, seed: int) -> set[str]:
    """Return about n texts like those of `written_times`, for readers that take many texts at once."""
    draw = random.Random(seed)
    texts = set()
    for _ in range(n):
        year, pad = draw.choice([0, 1, 1582, 1900, 2000, 2016, 2025, 2026, 9999]), draw.choice(["02d", "d"])
        date = draw.choice(
            [
                f"{year:04d}-{draw.randrange(14):{pad}}-{draw.randrange(1, 32):{pad}}",
                f"{year:04d}{draw.randrange(1, 14):02d}{draw.randrange(1, 32):02d}",
                f"{year:04d}-{draw.randrange(370):03d}",
                f"{year:04d}-W{draw.randrange(55):02d}-{draw.randrange(9)}",
                f"{year:04d}W{draw.randrange(55):02d}{draw.randrange(9)}",
            ]
        )
        hour, minute, second = draw.randrange(25), draw.choice([0, 0, 30, 59, 60]), draw.choice([0, 0, 7, 59, 60])
        fraction = draw.choice(["", "", ".5", ",123456789", ".", ".0000001"])
        clock = draw.choice(
            [
                f"{hour:02d}",
                f"{hour:{pad}}:{minute:{pad}}",
                f"{hour:{pad}}:{minute:{pad}}:{second:{pad}}{fraction}",
                f"{hour:02d}{minute:02d}",
                f"{hour:02d}{minute:02d}{second:02d}{fraction}",
                "23:59:60",
                "24:00",
            ]
        )
        texts.add(date + draw.choice(["", draw.choice("Tt ") + clock + draw.choice(_ZONES)]))
    return texts
