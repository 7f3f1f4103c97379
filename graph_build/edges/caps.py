"""What the caps cut most, by name: bot-like sessions and baskets, floods of a search, busy users, star items."""

import datetime as dt
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from pyspark.sql import functions as F

from graph_build.config import GraphConfig

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# Names of each rule that the report shows.
SHOWN = 10
NAMED = (("session", "session_id"), ("search", "query"))
NAMES = "session bigint, session_id string, search bigint, query string"


class Capped(NamedTuple):
    """A group that a cap cut: the rule, its name, and how many members it had before."""

    rule: str
    name: str
    had: int


def in_days(
    rows: "DataFrame", pairs: "DataFrame", usable: "DataFrame | None", config: GraphConfig, cut: dict[str, int]
) -> list[Capped]:
    """The sessions, baskets and searches that were cut most. Each is a matter of one day.

    Only the few that are shown are looked up in the log, which alone has their names.

    Args:
        rows: rows of sessions.
        pairs: `co_search.pairs`.
        usable: the checked events that both come from; without them hashes stand for the names.
        cut: rule → how much it cut; a rule that cut nothing is not looked at.
    """
    members = (F.col("members") - F.lit(config.co_search.max_items_per_search)).alias("over")
    searched = pairs.where("members is not null").select("day", "low", F.col("high").alias("key"), members)
    in_rows = rows.select("browsed", F.col("session").alias("key"), F.col("cut").alias("over"))
    groups = {
        "session_items": (in_rows.where("browsed"), config.strong_click.max_session_items),
        "basket_items": (in_rows.where("not browsed"), config.co_purchase.max_basket_items),
        "co_search_items": (searched, config.co_search.max_items_per_search),
    }
    most = {
        rule: frame.where("over > 0").orderBy(F.desc("over"), "key").limit(SHOWN).collect()
        for rule, (frame, _) in groups.items()
        if cut.get(rule)
    }
    sessions = [row["key"] for rule in ("session_items", "basket_items") for row in most.get(rule, ())]
    searches = [(row["low"], row["day"], row["key"]) for row in most.get("co_search_items", ())]
    names = {} if usable is None else _looked_up(usable, sessions, searches)
    return [
        Capped(rule, names.get(row["key"], str(row["key"])), int(row["over"]) + groups[rule][1])
        for rule, found in most.items()
        for row in found
    ]


def in_window(most_cut: dict[str, list[tuple[int, int]]], names: "DataFrame") -> list[Capped]:
    """The items and the users' days that Swing cut most; a user is named by the hash's first 48 bits, in hex.

    Args:
        most_cut: rule → (key, members).
        names: item, item_id.
    """
    items = [key for key, _ in most_cut["swing_item_users"]]
    ids = dict(tuple(row) for row in names.where(F.col("item").isin(items)).select("item", "item_id").collect())
    return [
        Capped(rule, ids[key] if rule == "swing_item_users" else _user_on_day(key), members)
        for rule, cut in most_cut.items()
        for key, members in cut
    ]


def _user_on_day(key: int) -> str:
    from graph_build.edges.swing_lists import DAY_BITS

    day = dt.date(1970, 1, 1) + dt.timedelta(days=key % (1 << DAY_BITS))
    return f"{(key >> DAY_BITS) % (1 << 64 - DAY_BITS):012x} on {day}"


def by_rule(found: list[Capped]) -> dict[str, dict[str, int]]:
    """Rule → name → members, the most first."""
    rules: dict[str, dict[str, int]] = {}
    for rule, name, had in sorted(found, key=lambda one: (one.rule, -one.had, one.name)):
        names = rules.setdefault(rule, {})
        if len(names) < SHOWN:
            names[name] = max(had, names.get(name, 0))
    return rules


def _looked_up(usable: "DataFrame", sessions: list[int], searches: list[tuple[int, int, int]]) -> dict[int, str]:
    """The ids of sessions and the texts of searches (user, day, hash of the query), from one pass over the log."""
    if not sessions and not searches:
        return {}
    wanted = [search for _, _, search in searches]

    def match(batches: Iterator[Any]) -> Iterator[Any]:
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        from graph_build.sessions.assemble import searched

        for batch in batches:
            session = batch["session"].to_numpy()
            search, asked = searched(batch["query"])
            shown, sought = np.isin(session, sessions), asked & np.isin(search, wanted)
            columns = {
                "session": pa.array(session, mask=~shown),
                "session_id": pc.if_else(shown, batch["session_id"], None),
                "search": pa.array(search, mask=~sought),
                "query": pc.if_else(sought, batch["query"], None),
            }
            yield pa.record_batch(columns)

    users, days = {user for user, _, _ in searches}, {day for _, day, _ in searches}
    asked = F.col("query").isNotNull() & F.col("user").isin(*users) & F.col("day").isin(*days)
    theirs = usable.where(F.col("session").isin(*sessions) | asked)
    found = theirs.select("session", "session_id", "query").mapInArrow(match, NAMES).distinct().collect()
    return {row[key]: row[name] for row in found for key, name in NAMED if row[key] is not None}
