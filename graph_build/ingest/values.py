"""How ids, texts, times and numbers are written in a table: the one grammar that both readers follow.

Ids and texts lose the blanks around them and are composed (NFC), so that equal ids compare equal. If nothing is left,
an id or a text is null. A value that does not fit its column is null. Retrieval has its own implementation for times
and ids; one golden file tests both.
"""

import re
import unicodedata
from typing import NamedTuple
from zoneinfo import ZoneInfo

from graph_build.config import InputConfig, TimeUnit

# A number is no time if it lies farther than this many microseconds from the time that 0 stands for. For example, -2^63
# often stands for a missing time.
FARTHEST_TIME = 9_000_000_000_000_000
# The years 1 to 9999, in microseconds since 1970: times are from FIRST_TIME up to, but not including, END_OF_TIMES.
# Python's calendar knows no other years, so no later step can use them. Readers keep times outside of these years, so
# that they differ from missing times.
FIRST_TIME, END_OF_TIMES = -62_135_596_800_000_000, 253_402_300_800_000_000
DAY = 86_400_000_000


class TimeScale(NamedTuple):
    """The time that a number stands for: `start + number * factor / divisor` microseconds since 1970."""

    factor: int
    divisor: int = 1
    start: int = 0

    @property
    def farthest(self) -> int:
        """Return the largest number that is read; the smallest is its negative."""
        return FARTHEST_TIME * self.divisor // self.factor


SCALES: dict[TimeUnit, TimeScale] = {
    "ns": TimeScale(1, 1_000),
    "us": TimeScale(1),
    "ms": TimeScale(1_000),
    "s": TimeScale(1_000_000),
    "day": TimeScale(DAY),
    "order": TimeScale(DAY, start=946_684_800_000_000),  # 2000-01-01
}
# An ad that ends in or after the year 3000 has no end, and one that starts before 1900 has no start.
NO_START_BEFORE, NO_END_FROM = -2_208_988_800_000_000, 32_503_680_000_000_000

# White space and characters without width, which exports, spreadsheets and web pages leave around values.
ASCII_BLANKS = " \t\n\v\f\r\0"
BLANKS = ASCII_BLANKS + (
    "\x85\xa0\u1680\u180e\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u200b\u200c\u200d\u200e"
    "\u200f\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
)

# ISO 8601 as logs write it: with a blank or T before the time, fields of one digit, a comma before the fraction, and an
# offset or a region at the end. Abbreviations such as BST name several zones and are refused. Python and RE2 read these
# patterns as they are; for Java, the P is removed.
_ZONE = r"(?P<zone>(?:(?i:Z|UTC|GMT)|(?i:UTC|GMT)?[+-](?:\d{1,2}|\d{1,2}:\d{2}|\d{4}))|[A-Z][A-Za-z_]+(?:/[\w+-]+)+)"
WRITTEN_TIME = (
    r"^(?P<year>\d{4})-(?:(?P<month>\d{1,2})-(?P<day>\d{1,2})|(?P<ordinal>\d{3})|W(?P<week>\d{2})-(?P<weekday>[1-7]))"
    r"(?:[Tt ](?P<hour>\d{1,2})(?::(?P<minute>\d{1,2})(?::(?P<second>\d{1,2})(?:[.,](?P<fraction>\d*))?)?)?"
    r"(?: ?" + _ZONE + r"(?:\[[\w/+-]+\])?)?)?$"
)
# Rewrites the basic forms, which have neither hyphens nor colons, as the extended ones: (pattern, replacement).
BASIC_FORMS = (
    (r"^(\d{4})(\d{2})(\d{2})((?:[Tt ].*)?)$", r"\1-\2-\3\4"),
    (r"^(\d{4})W(\d{2})([1-7])((?:[Tt ].*)?)$", r"\1-W\2-\3\4"),
    (r"^([^Tt ]+[Tt ]\d{2})(\d{2})(\d{2}(?:[^\d:].*)?)$", r"\1:\2:\3"),
    (r"^([^Tt ]+[Tt ]\d{2})(\d{2}(?:[^\d:].*)?)$", r"\1:\2"),
)
WRITTEN_NUMBER = r"^[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|(?i:inf|infinity|nan))$"
# A time that is a number, counted in some unit.
WRITTEN_COUNT = r"^(?P<whole>[+-]?\d+)(?:\.(?P<fraction>\d*))?$"
WRITTEN_INTEGER = r"^(?P<sign>[+-]?)0*(?P<digits>\d+)$"

# Removes the parts of an id that a program drops if it takes the id for a number: (pattern, replacement).
LOOSE_ID = (r"^0+(?=.)|\.0+$", "")

_OFFSET = re.compile(r"(?:UTC|GMT)?([+-])(\d{1,2}):?(\d{2})?", re.IGNORECASE)
_LARGEST_OFFSET = 18 * 60  # minutes, as in Java


def loose_id(item_id: str) -> str:
    """Return an id in lower case, without leading zeros and a final `.0`.

    A program that takes the id for a number drops these.
    """
    return re.sub(*LOOSE_ID, item_id).lower()


def clean_text(text: str) -> str | None:
    """Return an id or a text composed (NFC) and without the blanks around it; None if nothing is left.

    >>> clean_text(" cafe\u0301\t")
    'café'
    """
    return unicodedata.normalize("NFC", text.strip(BLANKS)) or None


def null_words(name: str, format_: str, config: InputConfig) -> tuple[str, ...]:
    """Return the words that stand for null in a column of CSV. Other formats have a null of their own, and no words.

    Args:
        name: the contract's name of the column.
        format_: the format of the file.
        config: the `[input]` section.
    """
    if format_ != "csv":
        return ()
    is_country = name in ("country", "countries")
    return tuple(word for word in config.null_words if not (is_country and word == "NA"))  # NA is Namibia


def zone_offset(zone: str) -> int | ZoneInfo | None:
    """Return the offset of a written zone in microseconds, or the rules of a region; None if the zone is unknown.

    >>> zone_offset("+02:00"), zone_offset("Z"), zone_offset("-19:00")
    (7200000000, 0, None)
    """
    if zone.upper() in ("", "Z", "UTC", "GMT"):
        return 0
    if match := _OFFSET.fullmatch(zone):
        minutes = 60 * int(match[2]) + int(match[3] or 0)
        if int(match[3] or 0) > 59 or minutes > _LARGEST_OFFSET:
            return None
        return (-minutes if match[1] == "-" else minutes) * 60_000_000
    try:
        return ZoneInfo(zone)
    except (OSError, ValueError, KeyError):  # the region is not known, or the host has no table of regions
        return None
