"""How times and numbers are written in a log: the one grammar that both readers follow.

Ids and texts lose the blanks around them, and are null when nothing is left. A value that does not fit is null.
"""

import re
from typing import Literal
from zoneinfo import ZoneInfo

Unit = Literal["s", "ms", "us"]

UNITS: dict[Unit, int] = {"s": 1_000_000, "ms": 1_000, "us": 1}  # microseconds
# Times as integers are read within this many microseconds of 1970; a missing time as an integer is often -2^63.
FARTHEST_TIME = 9_000_000_000_000_000

# ISO 8601 as logs write it: a blank or T before the time, fields of one digit, a comma before the fraction, an offset
# or a region at the end. Abbreviations such as BST name several zones, and are refused. Python and RE2 read this
# pattern; Java does, too, without the P.
WRITTEN_TIME = (
    r"^\s*(?P<year>\d{4})-(?P<month>\d{1,2})-(?P<day>\d{1,2})"
    r"(?:[T ](?P<hour>\d{1,2})(?::(?P<minute>\d{1,2})(?::(?P<second>\d{1,2})(?:[.,](?P<fraction>\d*))?)?"
    r" ?(?P<zone>Z|UTC|GMT|(?:UTC|GMT)?[+-](?:\d{1,2}|\d{1,2}:\d{2}|\d{4})|[A-Z][A-Za-z_]+(?:/[A-Za-z0-9_+-]+)+)?"
    r")?)?\s*$"
)
WRITTEN_NUMBER = r"^\s*[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|(?i:inf|infinity|nan))\s*$"
WRITTEN_INTEGER = r"^\s*(?P<sign>[+-]?)0*(?P<digits>\d+)\s*$"

_OFFSET = re.compile(r"(?:UTC|GMT)?([+-])(\d{1,2}):?(\d{2})?")
_LARGEST_OFFSET = 18 * 60  # minutes, as in Java


def zone_offset(zone: str) -> int | ZoneInfo | None:
    """Return what a written zone stands for: its offset in microseconds, or the rules of a region; None if unknown.

    >>> zone_offset("+02:00"), zone_offset("Z"), zone_offset("-19:00")
    (7200000000, 0, None)
    """
    if zone in ("", "Z", "UTC", "GMT"):
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
