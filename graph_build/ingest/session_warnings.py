"""Finds things that look wrong with a log's sessions: the order of events, the ids, and sessions that link no items."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from graph_build.config import InputConfig
from graph_build.ingest.contract import mapped

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

MAX_SHARE_OF_TIES = 0.9
MAX_SHARE_OF_SINGLES = 0.99
# A visit lasts no longer than LONG_HOURS. If more than MAX_SHARE_LIKE_USERS of the sessions last longer, or have ids
# that recur on MANY_DAYS or more, the ids are those of users. Bots and pages that stay open make up a smaller share.
LONG_HOURS, MANY_DAYS, MAX_SHARE_LIKE_USERS = 6, 3, 0.05
MIN_SESSIONS = 20
# In logs with more sessions, the days of each id are counted only in a sample of about this many sessions.
SAMPLED_SESSIONS = 200_000


def session_doubts(rows: "DataFrame", config: InputConfig) -> list[str]:
    """Return a sentence for each doubt, with the numbers that cause it and what to do.

    Args:
        rows: rows of sessions.
        config: the `[input]` section.
    """
    counts = _count(rows)
    checks = [_order(counts), _one_item(counts), _like_users(rows, counts, config)]
    return [doubt for doubt in checks if doubt is not None]


@dataclass(frozen=True)
class _Counts:
    """Numbers of sessions.

    Args:
        total: all sessions.
        cut: sessions without an id, which were cut at pauses.
        walks: sessions of several events, with a view or a click.
        tied: `walks` in which all events have the same time.
        single: sessions of at most one item event.
        one_item: sessions of at most one item.
        visits: sessions of several events, with an id.
        long: `visits` that last longer than LONG_HOURS.
    """

    total: int
    cut: int
    walks: int
    tied: int
    single: int
    one_item: int
    visits: int
    long: int


def _count(rows: "DataFrame") -> _Counts:
    several, cut, last = F.size("time") > 1, F.col("id").isNull(), F.element_at("time", -1)
    is_walk = F.col("browsed") & several
    groups = {
        "cut": cut,
        "walks": is_walk,
        "tied": is_walk & (F.col("start") == last),
        "single": F.col("counted") < 2,
        "one_item": F.coalesce(F.array_min("item") == F.array_max("item"), F.lit(True)),
        "visits": ~cut & several,
        "long": ~cut & several & (last - F.col("start") > LONG_HOURS * 3_600_000_000),
    }
    sums = [F.count_if(condition).alias(name) for name, condition in groups.items()]
    return _Counts(**rows.agg(F.count(F.lit(1)).alias("total"), *sums).collect()[0].asDict())


def _order(counts: _Counts) -> str | None:
    """Doubt the order of events if all events of a session have the same time in most sessions."""
    if not counts.walks or counts.tied <= MAX_SHARE_OF_TIES * counts.walks:
        return None
    return (
        f"in {counts.tied:,} of {counts.walks:,} sessions all events have the same time, and are taken in the order of "
        "the file; if they happened in another order, give finer times or a `sequence`"
    )


def _one_item(counts: _Counts) -> str | None:
    """Doubt the ids if nearly every session has only one item event, or events of only one item."""
    column = "user_id" if counts.cut == counts.total else "session_id"
    if counts.single > MAX_SHARE_OF_SINGLES * counts.total:
        return (
            f"{counts.single:,} of {counts.total:,} sessions hold at most one item event, so hardly anyone leaves one "
            f"item for another; is {column} a new one for every event?"
        )
    if counts.one_item > MAX_SHARE_OF_SINGLES * counts.total:
        return (
            f"{counts.one_item:,} of {counts.total:,} sessions hold events of one item only, so hardly anyone leaves "
            f"one item for another; is {column} a new one for every item page, or does item_id name the shop?"
        )
    return None


def _like_users(rows: "DataFrame", counts: _Counts, config: InputConfig) -> str | None:
    """Doubt the session ids if they seem to be ids of users."""
    signs = []
    if counts.visits >= MIN_SESSIONS and counts.long > MAX_SHARE_LIKE_USERS * counts.visits:
        signs.append(f"{counts.long:,} of {counts.visits:,} sessions last longer than {LONG_HOURS} hours")
    share = _share_of_recurring_ids(rows, counts)
    if share > MAX_SHARE_LIKE_USERS:
        signs.append(f"{share:.0%} of the sessions have ids that are used on {MANY_DAYS} days or more")
    if not signs:
        return None
    column, gap = mapped("events", config)["session_id"], config.events.session_gap
    return (
        f"{' and '.join(signs)}; does {column!r} name users, not visits? If so, write under [input.events.columns] "
        f'session_id = "", and user_id = "{column}" unless the log has a user_id, so that sessions are cut at pauses '
        f"of {gap:g} minutes"
    )


def _share_of_recurring_ids(rows: "DataFrame", counts: _Counts) -> float:
    """Return the share of sessions whose ids are used on MANY_DAYS or more. An id has one session on each day."""
    with_id = counts.total - counts.cut
    if with_id < MIN_SESSIONS:
        return 0.0
    sample = F.pmod("id", F.lit(max(1, with_id // SAMPLED_SESSIONS))) == 0
    days = rows.where(F.col("id").isNotNull() & sample).groupBy("id").agg(F.count(F.lit(1)).alias("days"))
    recurring = F.sum(F.when(F.col("days") >= MANY_DAYS, F.col("days")))
    n, n_recurring = days.agg(F.sum("days"), recurring).collect()[0]
    return (n_recurring or 0) / n if n else 0.0
