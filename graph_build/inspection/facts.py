"""What a sample tells of a log beyond its columns: the span of its times, its quiet hours, its sessions and users."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from graph_build.config import EventsInput, TableInput
from graph_build.ingest.values import DAY
from graph_build.inspection.findings import TableFindings, TimeFacts
from graph_build.inspection.recognise import id_spans, is_basket
from graph_build.inspection.row_faults import ContractRows

_HOUR = DAY // 24
_LONG_SESSION = 12 * _HOUR
_MIN_LONG_SHARE = 0.1
_MIN_SPANS = 20
# A night is this many hours long. Its middle is about four o'clock.
_NIGHT, _MIDDLE_OF_NIGHT = 5, 4
_MAX_NIGHT_SHARE = 0.07
_MIN_EVENTS_OF_DAYS, _MIN_DAYS = 500, 2


def time_facts(rows: ContractRows, section: TableInput) -> TimeFacts | None:
    """Return the times of events; None if none can be read.

    Args:
        rows: the events.
        section: their settings.
    """
    if "timestamp" not in rows.values:
        return None
    times = rows.values["timestamp"].cast(pa.int64()).drop_null().to_numpy()
    if not len(times):
        return None
    unit = section.timestamp_unit if isinstance(section, EventsInput) else None
    of_day = times % DAY
    has_hours = unit not in ("day", "order") and bool((of_day != of_day[0]).any())
    by_hour = tuple(np.bincount(of_day // _HOUR, minlength=24).tolist()) if has_hours else ()
    return TimeFacts(int(times.min()), int(times.max()), unit, by_hour, len(np.unique(times // DAY)))


def suggested_zone(rows: ContractRows, times: TimeFacts) -> str | None:
    """Return a note that suggests a time zone for the log, if its quiet hours point to one; None otherwise.

    Args:
        rows: the events.
        times: what is known of their times.
    """
    hours = np.array(times.by_hour)
    if times.days < _MIN_DAYS or not len(hours) or hours.sum() < _MIN_EVENTS_OF_DAYS:
        return None
    nights = np.array([np.take(hours, range(at, at + _NIGHT), mode="wrap").sum() for at in range(24)])
    # If several hours in a row begin nights that are equally quiet, the middle hour counts.
    is_quiet = nights == nights.min()
    if is_quiet.all():
        return None
    begin = next(at for at in range(24) if is_quiet[at] and not is_quiet[at - 1])
    n_quiet = next(n for n in range(1, 24) if not is_quiet[(begin + n) % 24])
    middle = (begin + (n_quiet - 1 + _NIGHT) // 2) % 24
    offset = (_MIDDLE_OF_NIGHT - middle + 12) % 24 - 12
    if nights.min() > _MAX_NIGHT_SHARE * hours.sum() or abs(offset) < 3:
        return None
    zone = f"Etc/GMT{-offset:+d}"  # in these names, + means west
    return (
        f"the log is quietest at {middle:02d}:00 UTC; if that is its night, its days are {abs(offset)} hours "
        f'{"ahead of" if offset > 0 else "behind"} UTC: [input] day_zone = "{zone}", or the name of its region'
    )


def count_ids(findings: TableFindings, rows: ContractRows) -> dict[str, int]:
    """Return the numbers of sessions, users and items of events, and note what is odd about the sessions.

    Args:
        findings: what is known of the table; notes are added to it.
        rows: the events.
    """
    counts = {}
    for name, key in (("session_id", "sessions"), ("user_id", "users"), ("item_id", "items")):
        if name in rows.values:
            counts[key] = len(pc.unique(rows.values[name].drop_null()))
    if "session_id" not in rows.values:
        if "user_id" in rows.values:
            findings.notes.append(
                "there is no session id: a session is what one user does without a long pause "
                "([input.events] session_gap; default: 30 minutes)"
            )
        return counts
    own = findings.mapping.get("session_id", "session_id")
    if isinstance(own, str) and is_basket(own):
        findings.notes.append(f"{own!r} is read as the session, so that each basket is a session of its own")
    if "timestamp" in rows.values:
        spans = id_spans(rows.values["session_id"], rows.values["timestamp"].cast(pa.int64()))
        n_long = int((spans > _LONG_SESSION).sum())
        if len(spans) >= _MIN_SPANS and n_long > _MIN_LONG_SHARE * len(spans):
            findings.notes.append(
                f"{n_long:,} of {len(spans):,} ids in {own!r} last longer than 12 hours: are these users? If so, write "
                f'[input.events.columns] user_id = "{own}" and session_id = "", so that pauses end sessions'
            )
    return counts


def shown_time(micros: int) -> str:
    """Return a time in microseconds since 1970 as text."""
    try:
        time = dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=micros)
    except OverflowError:
        return f"{micros} µs after 1970"
    return time.isoformat(" ", "seconds")
