"""Reads lines of a web server's log, in the common and the combined format of Apache and nginx, as records.

The items of a shop stand in the paths of its pages. `path.0` is the first part of a path and `path.1` the second, so
that /product/4711 has the item 4711 at `path.1`. Parameters after a question mark stand in `query`: /view?item=4711 has
the item at `query.item`.
"""

import re
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

_QUOTED = r'(?:[^"\\]|\\.)*'
_LINE = re.compile(
    r"^(?P<host>\S+) \S+ (?P<user>\S+) \[(?P<time>[^\]]+)\] "
    rf'"(?P<request>{_QUOTED})" (?P<status>\d{{3}}) (?P<bytes>\S+)'
    rf'(?: "(?P<referrer>{_QUOTED})" "(?P<agent>{_QUOTED})")?'
)
_TIME = re.compile(r"^(\d{1,2})/([A-Z][a-z]{2})/(\d{4}):(\d{2}:\d{2}:\d{2}) ?([+-]\d{4})?$")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# Statuses of pages that were shown: the page was found, or is unchanged since the browser last asked for it.
_SHOWN = ("200", "203", "206", "304")
_ROBOT = re.compile(r"bot\b|crawl|spider|slurp|monitor|curl/|wget/|python-|scrapy|headless", re.IGNORECASE)
_FIELDS = ("host", "user", "time", "method", "page", "status", "bytes", "referrer", "agent")
PLACES = ("path", "query")


def is_field(path: str) -> bool:
    """Return whether a name or path may stand in a line.

    >>> is_field("path.1"), is_field("query.item"), is_field("item_id")
    (True, True, False)
    """
    return path in _FIELDS or path.partition(".")[0] in PLACES


def parse_line(line: bytes) -> dict[str, Any] | None:
    """Return the record of a line; None if it is no line of such a log.

    `path` and `query` are filled only if a page was shown to a person, that is, if a GET or POST succeeded and the
    browser does not call itself a robot.
    """
    match = _LINE.match(line.decode("utf-8", errors="replace"))
    if match is None or (time := _iso(match["time"])) is None:
        return None
    method, _, rest = match["request"].partition(" ")
    target = rest.rpartition(" ")[0] or rest
    record: dict[str, Any] = {
        **{name: _known(match[name]) for name in ("host", "user", "status", "bytes", "referrer")},
        "agent": match["agent"] or "-",  # not null, so that host and agent together name a shopper
        "time": time,
        "method": method,
        "page": target,
        "path": [],
        "query": {},
    }
    is_person = match["agent"] is None or not _ROBOT.search(match["agent"])
    if method in ("GET", "POST") and match["status"] in _SHOWN and is_person:
        parts = _split(target)
        record["path"] = [unquote(part) for part in parts.path.split("/") if part]
        record["query"] = dict(parse_qsl(parts.query))
    return record


def _split(target: str) -> Any:
    try:
        return urlsplit(target)
    except ValueError:  # some robots ask for such addresses
        return urlsplit("")


def _known(text: str | None) -> str | None:
    return None if text in (None, "-", "") else text


def _iso(text: str) -> str | None:
    """Return a time such as 02/Mar/2026:09:05:07 +0100 as ISO 8601."""
    match = _TIME.match(text)
    if match is None or match[2] not in _MONTHS:
        return None
    day, month, year, clock, offset = match.groups()
    return f"{year}-{_MONTHS.index(month) + 1:02d}-{int(day):02d}T{clock}{offset or 'Z'}"
