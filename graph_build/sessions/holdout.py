"""The hold-out: the last sessions of the log. The fit graph leaves them out, so that models can be selected on them."""

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyspark.sql import Window
from pyspark.sql import functions as F

from graph_build.day_zone import UTC, local_day, microseconds, midnight
from graph_build.decay import day_number
from graph_build.graphs import AsOf

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


@dataclass(frozen=True)
class HoldoutCutoff:
    """The first held-out session, in the order of (start, session).

    Args:
        start: the start of the session, in microseconds since 1970.
        session: the hash of the session.
    """

    start: int
    session: int

    def day(self, zone: str = UTC) -> int:
        """Return the day number of the first held-out session, in a time zone."""
        return day_number(local_day(self.start, zone))


def is_held_out(cutoff: HoldoutCutoff | None) -> "Column":
    """Return whether a row of sessions (columns start and session) is held out; without a cutoff none is."""
    if cutoff is None:
        return F.lit(False)
    return (F.col("start") > cutoff.start) | ((F.col("start") == cutoff.start) & (F.col("session") >= cutoff.session))


def cutoff_for_share(rows: "DataFrame", share: float) -> HoldoutCutoff | None:
    """Hold out the last sessions that together have at least a share of the item events, but never all sessions.

    Sessions are not split; those with the same start are ordered by their hash. Spark sends only little to the driver:
    the numbers of events by day, those by second of one day, and two sessions (the first of all, and the first that is
    held out).

    Args:
        rows: rows of sessions.
        share: share of the item events, in [0, 1).
    """
    counted = rows.where("counted > 0").select("session", "start", "day", "counted")
    by_day = _events_by(counted, "day")
    total = sum(n for _, n in by_day)
    if total == 0 or share == 0:
        return None
    day, later = _reach(by_day, share * total, 0)
    in_day = counted.where(F.col("day") == day).withColumn("second", F.expr("start div 1000000"))
    second, later = _reach(_events_by(in_day, "second"), share * total, later)
    # Take the sessions that start in this second, the latest first, until the share is reached.
    order = Window.orderBy(F.desc("start"), F.desc("session"))
    before = F.coalesce(F.sum("counted").over(order.rowsBetween(Window.unboundedPreceding, -1)), F.lit(0))
    in_second = in_day.where(F.col("second") == second).withColumn("before", before)
    reached = in_second.where(F.col("before") + later < share * total)
    cutoff, first = _first_session(reached), _first_session(counted)
    if cutoff == first and first is not None:
        after_first = (F.col("start") > first.start) | (
            (F.col("start") == first.start) & (F.col("session") > first.session)
        )
        cutoff = _first_session(counted.where(after_first))
    return cutoff


def cutoff_at_day(day: dt.date, zone: str = UTC) -> HoldoutCutoff:
    """Hold out all sessions that start on a day or later.

    No session is split, because sessions end at midnight.

    Args:
        day: the first day that is held out.
        zone: the time zone of the days.
    """
    return HoldoutCutoff(microseconds(midnight(day, zone)), -(2**63))


def last_days(rows: "DataFrame", cutoff: HoldoutCutoff | None) -> AsOf:
    """Return the last day with an event for each of the two graphs.

    If every session is held out, the fit graph gets the full graph's day.

    Args:
        rows: rows of sessions.
        cutoff: the first held-out session.
    """
    last = rows.agg(F.max("day"), F.max(F.when(~is_held_out(cutoff), F.col("day")))).collect()[0]
    return AsOf(last[0], last[0] if last[1] is None else last[1])


def _first_session(sessions: "DataFrame") -> HoldoutCutoff | None:
    first = sessions.agg(F.min(F.struct("start", "session"))).collect()[0][0]
    return None if first is None else HoldoutCutoff(*first)


def _events_by(counted: "DataFrame", key: str) -> list[tuple[int, int]]:
    """Return (key, item events), the last key first."""
    return sorted((tuple(row) for row in counted.groupBy(key).agg(F.sum("counted")).collect()), reverse=True)


def _reach(counts: list[tuple[int, int]], target: float, start: int) -> tuple[int, int]:
    """Return the key at which the running sum, from `start`, reaches the target, and the sum before that key."""
    total = start
    for key, count in counts:
        if total + count >= target:
            return key, total
        total += count
    return counts[-1][0], total - counts[-1][1]
