"""Says which events are refused, for which reasons, and how large a share of bad rows a job accepts.

The module depends on no engine. The conditions are built from operators that Spark's columns and Arrow's expressions
have in common, so that both readers refuse by the same code.
"""

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

from graph_build.config import EventType, Ignored, TimeUnit
from graph_build.day_zone import UTC, microseconds, midnight
from graph_build.errors import GraphInputError
from graph_build.ingest.contract import TYPES
from graph_build.ingest.values import DAY, END_OF_TIMES, FIRST_TIME, SCALES

AFTER_DATE = "after_date"
OTHER_DAY = "other_day"
SESSION_STORED = "session_stored"
IGNORED = "ignored"
UNREADABLE = "unreadable"
# The reasons of rows of days that were not requested.
OTHER_DAYS = (AFTER_DATE, OTHER_DAY)
# Reasons that are no fault of the log. Rows with these are counted, but neither refused nor kept.
UNUSED = (IGNORED, *OTHER_DAYS)

# The column whose value explains each reason.
REASON_COLUMNS = {
    "session_missing": "session_id",
    "time_invalid": "timestamp",
    "type_unknown": "event_type",
    "query_missing": "query",
    "item_missing": "item_id",
    AFTER_DATE: "timestamp",
    OTHER_DAY: "timestamp",
    SESSION_STORED: "session_id",
    "time_in_future": "timestamp",
}
_ADVICE = {
    "session_missing": "; an event needs a session_id or a user_id: map one, [input.events.columns] user_id = "
    '"your_column"',
    "time_invalid": "; times are expected as timestamps, as ISO 8601 strings, or as numbers in the unit of "
    "[input.events] timestamp_unit",
    "type_unknown": f"; event types are {', '.join(TYPES)}; name yours under "
    '[input.events.types], or leave them out with "ignore"',
    UNREADABLE: "; each line is expected to hold one JSON object",
}
# How many unknown event types are named.
SHOWN_TYPES = 10
_EPOCH = dt.date(1970, 1, 1)
_START = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
# Events before this time come from no shop on the web. Events until 1973, in the first tenth of the years from 1970 to
# this time, count as near 1970.
_PLAUSIBLE_FROM = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)


# Under [input.events.types], this name stands for all types that have no line of their own.
ANY_OTHER = "*"


def type_names(types: Mapping[str, EventType | Ignored]) -> dict[str, EventType | Ignored]:
    """Return name in lower case → event type or `ignore`. The names are those of the contract and those in `types`."""
    known: dict[str, EventType | Ignored] = {name: name for name in TYPES}  # type: ignore[misc]
    return known | {name.lower(): kind for name, kind in types.items()}


def event_faults(
    column: Callable[[str], Any],
    is_null: Callable[[Any], Any],
    now: dt.datetime,
    last_day: dt.date | None = None,
    days: list[dt.date] | None = None,
    zone: str = UTC,
) -> dict[str, Any]:
    """Return reason → condition for which an event is refused. The first condition that holds gives the event's reason.

    Args:
        column: an event's value by name, as a column or expression of the engine: `session_id`, `user_id`, `item_id`
            and `query` (null when blank), `event_type` (null when unknown, `ignore` when it means nothing), `time`
            (microseconds since 1970) and `day` (days since 1970).
        is_null: the engine's test for null.
        now: events more than a day after this time are refused, because one wrong clock would make all other events
            seem old.
        last_day: the last day that is used.
        days: the only days that are used.
        zone: the time zone of the days.
    """
    search, time = column("event_type") == "search", column("time")
    faults = {
        IGNORED: column("event_type") == "ignore",
        "session_missing": is_null(column("session_id")) & is_null(column("user_id")),
        "time_invalid": is_null(time) | (time < FIRST_TIME) | (time >= END_OF_TIMES),
        "type_unknown": is_null(column("event_type")),
        "query_missing": search & is_null(column("query")),
        "item_missing": ~search & is_null(column("item_id")),
    }
    if last_day is not None:
        faults[AFTER_DATE] = time >= microseconds(midnight(last_day + dt.timedelta(days=1), zone))
    if days is not None:
        faults[OTHER_DAY] = ~column("day").isin([(day - _EPOCH).days for day in days])
    return faults | {"time_in_future": time > microseconds(now + dt.timedelta(days=1))}


def check_bad_share(
    table: str,
    files: str,
    total: int,
    refused: Mapping[str, int],
    example: Callable[[str], str],
    max_bad_share: float,
) -> None:
    """Stop the job when too many rows of a table are bad.

    Args:
        table: which of the three tables.
        files: the first files of the table, for the message.
        total: the number of all rows of the table, without UNUSED ones.
        refused: refused rows by reason, without UNUSED ones.
        example: returns one row that was refused for a reason, as text.
        max_bad_share: the largest share of bad rows that is accepted, from 0 to 1.

    Raises:
        GraphInputError: a larger share of the rows is bad.
    """
    bad = sum(refused.values())
    if not bad or bad <= max_bad_share * total:
        return
    worst = commonest(refused)
    raise GraphInputError(
        f"{files}: {bad:,} of {total:,} {table} rows are bad ({listed(refused)}), more than "
        f"input.max_bad_share = {max_bad_share:g} allows; e.g. {worst}: {example(worst)}{_ADVICE.get(worst, '')}"
    )


def check_unit(files: str, first: int, last: int, unit: TimeUnit | None, now: dt.datetime) -> None:
    """Stop the job when all events lie near 1970, and would lie in this century if their times had a larger unit.

    Args:
        files: the first files of the events, for the message.
        first: the time of the first usable event, in microseconds since 1970.
        last: the time of the last usable event.
        unit: the unit of times that are numbers; None if times are timestamps or text.
        now: the present.

    Raises:
        GraphInputError: the times seem to have another unit.
    """
    if last >= microseconds(_PLAUSIBLE_FROM) // 10:
        return
    per_unit = {name: scale.factor / scale.divisor for name, scale in SCALES.items() if not scale.start}
    for factor in (1_000, 1_000_000, 1_000_000_000):
        if microseconds(_PLAUSIBLE_FROM) <= first * factor and last * factor <= microseconds(now) + DAY:
            fitting = next((name for name in per_unit if unit and per_unit[name] == per_unit[unit] * factor), None)
            advice = (
                f'set [input.events] timestamp_unit = "{fitting}"'
                if fitting
                else "write them in the unit of their type"
            )
            read, meant = (
                " and ".join(str(_START + dt.timedelta(microseconds=time * by)) for time in (first, last))
                for by in (1, factor)
            )
            raise GraphInputError(
                f"{files}: all events lie between {read}; if their times had a unit {factor:,} times as large, they "
                f"would lie between {meant}; {advice}"
            )


def named_types(unknown: Mapping[str, int]) -> str:
    """Return a text that lists unknown event types, as they were written, with the number of rows that have each.

    >>> named_types({"scroll": 1200, "": 3})
    "'scroll': 1,200, no type: 3"
    """
    return ", ".join(f"{repr(name) if name else 'no type'}: {n:,}" for name, n in unknown.items())


def commonest(refused: Mapping[str, int]) -> str:
    """Return the reason for which most rows were refused."""
    return max(refused, key=lambda reason: refused[reason])


def listed(refused: Mapping[str, int]) -> str:
    """Return a text that lists the reasons with the number of rows that were refused for each."""
    return ", ".join(f"{reason}: {n:,}" for reason, n in sorted(refused.items()))
