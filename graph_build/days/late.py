"""Compares the sessions of an input with the stored sessions of the same days.

A delivered session *meets* a stored session if both belong to one visit. This is so in two cases: they have the same
number; or neither has an id, both are of one user on one day, and the pause between them is not longer than
`session_gap`. In the second case the whole log would give one session instead of the two. Their numbers may differ,
because the first event of a session decides its number.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from graph_build.decay import EPOCH

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


@dataclass(frozen=True)
class LateSessions:
    """How the sessions of late rows compare with the stored ones.

    Args:
        days: days with a session that is stored without some of its late events.
        with_news: days with a session that is not stored yet.
        known: number of sessions that are stored with all their late events.
        unstored: the sessions that are not stored yet (column `session`); None if there are no late rows.
        conflicts: the sessions that meet stored ones, none of which holds all their events (session, id, user, day,
            start, last); None if there are no such sessions.
    """

    days: Sequence[dt.date] = ()
    with_news: frozenset[dt.date] | set[dt.date] = frozenset()
    known: int = 0
    unstored: "DataFrame | None" = None
    conflicts: "DataFrame | None" = None


def compare(delivered: "DataFrame", stored: "DataFrame", longest_pause: int) -> LateSessions:
    """Compare the sessions of late rows with the stored ones.

    Args:
        delivered: rows of sessions of some days.
        stored: the stored rows of these days.
        longest_pause: the longest pause within a session without an id, in microseconds.
    """
    sessions = _described(delivered)
    met = _meetings(sessions, _described(stored), longest_pause)
    holds_all = F.size(F.array_except("events", "stored_events")) == 0
    is_known = met.groupBy("session").agg(F.max(holds_all).alias("is_known"))
    state = F.when(F.col("is_known").isNull(), "new").when(F.col("is_known"), "known").otherwise("conflict")
    states = sessions.drop("events").join(is_known, "session", "left").withColumn("state", state)
    counts = {(row[0], row[1]): row[2] for row in states.groupBy("day", "state").count().collect()}
    conflicts = {EPOCH + dt.timedelta(days=day) for day, name in counts if name == "conflict"}
    return LateSessions(
        days=sorted(conflicts),
        with_news={EPOCH + dt.timedelta(days=day) for day, name in counts if name == "new"},
        known=sum(n for (_, name), n in counts.items() if name == "known"),
        unstored=states.where("state = 'new'").select("session"),
        conflicts=states.where("state = 'conflict'") if conflicts else None,
    )


def not_delivered(stored: "DataFrame", delivered: "DataFrame", longest_pause: int) -> "tuple[DataFrame, DataFrame]":
    """Return the stored stray rows that stay when the day's own log is delivered.

    If a stored session meets a delivered one, only the delivered one stays. But if the two have different numbers and
    no event in common, both stay: the visit then stands in two sessions, but no event is lost.

    Args:
        stored: the stored rows of a day.
        delivered: the rows of the day's own log.
        longest_pause: the longest pause within a session without an id, in microseconds.

    Returns:
        (the stored rows that stay; the sessions that do not stay although some of their events were not delivered, with
        their day and `lost`, the number of these events).
    """
    met = _meetings(_described(delivered), _described(stored), longest_pause)
    both = met.groupBy("stored", "stored_day").agg(
        F.first("stored_events").alias("before"),
        F.flatten(F.collect_list("events")).alias("after"),
        F.max(F.col("stored") == F.col("session")).alias("same_number"),
    )
    lost = F.size(F.array_except("before", "after")).alias("lost")
    goes = both.where(F.col("same_number") | F.arrays_overlap("before", "after"))
    goes = goes.select(F.col("stored").alias("session"), F.col("stored_day").alias("day"), lost)
    stays = stored.join(goes.select("session"), "session", "left_anti").select(*stored.columns)
    return stays, goes.where("lost > 0")


def events_of_conflicts(events: "DataFrame", conflicts: "DataFrame") -> "DataFrame":
    """Return the checked events of sessions that are in conflict with stored ones.

    Args:
        events: checked events. Without an id, all events of a user on a day have the same `session`.
        conflicts: `LateSessions.conflicts`.
    """
    visits = conflicts.select(_visit().alias("visit"), F.col("id").isNull().alias("cut"), "day", "start", "last")
    keyed = events.withColumns({"visit": _visit(), "cut": F.col("id").isNull()})
    e, v = keyed.alias("e"), visits.alias("v")
    same = [F.col(f"e.{name}") == F.col(f"v.{name}") for name in ("visit", "cut", "day")]
    within = ~F.col("e.cut") | F.col("e.time").between(F.col("v.start"), F.col("v.last"))
    return e.join(v, [*same, within], "left_semi").drop("visit", "cut")


def _visit() -> "Column":
    return F.when(F.col("id").isNull(), F.col("user")).otherwise(F.col("session"))


def _described(rows: "DataFrame") -> "DataFrame":
    """Return for each row of a session: session, id, user, day, start, last, and events (time, type, item)."""
    return rows.select(
        "session",
        "id",
        F.try_element_at("user", F.lit(1)).alias("user"),
        "day",
        "start",
        F.element_at("time", -1).alias("last"),
        F.arrays_zip("time", "type", "item").alias("events"),
    )


def _meetings(delivered: "DataFrame", stored: "DataFrame", longest_pause: int) -> "DataFrame":
    """Return each pair of sessions that meet, as session, events (delivered), stored, stored_day and stored_events."""
    d, s = delivered.alias("d"), stored.alias("s")
    is_close = (F.col("d.start") - F.col("s.last") <= longest_pause) & (
        F.col("s.start") - F.col("d.last") <= longest_pause
    )
    without_id = F.col("d.id").isNull() & F.col("s.id").isNull() & (F.col("d.session") != F.col("s.session"))
    same_user = [F.col(f"d.{name}") == F.col(f"s.{name}") for name in ("user", "day")]
    columns = [
        F.col("d.session").alias("session"),
        F.col("d.events").alias("events"),
        F.col("s.session").alias("stored"),
        F.col("s.day").alias("stored_day"),
        F.col("s.events").alias("stored_events"),
    ]
    same_number = d.join(s, F.col("d.session") == F.col("s.session")).select(*columns)
    return same_number.unionByName(d.join(s, [*same_user, without_id & is_close]).select(*columns))
