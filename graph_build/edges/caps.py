"""Names the groups that the caps cut most: bot-like sessions, big baskets, broad searches, busy users, popular items.

The caps bound what one group can add to the graph; the report lists the groups that lost most, so that bots stand out.
"""

import datetime as dt
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from pyspark.sql import functions as F

from graph_build.config import GraphConfig
from graph_build.decay import EPOCH

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

# Number of groups that the report shows for each rule.
SHOWN_GROUPS = 10
_NAME_COLUMNS = (("session", "session_id"), ("search", "query"))
_NAMES = "session bigint, session_id string, search bigint, query string"


class CutGroup(NamedTuple):
    """A group that a cap cut: the rule, the group's name, and its number of members before the cut."""

    rule: str
    name: str
    members: int


def most_cut_in_days(
    rows: "DataFrame", pairs: "DataFrame", usable: "DataFrame | None", config: GraphConfig, cut: dict[str, int]
) -> list[CutGroup]:
    """Return the sessions, baskets and searches that were cut most; each of them lies within one day.

    The names of these groups are looked up in the log. A session without an id is named by its user's hash and its
    start.

    Args:
        rows: rows of sessions.
        pairs: `co_search.search_pairs`.
        usable: the checked events from which both were made; without them a group's name is its hash.
        config: the caps.
        cut: rule → number of members that its cap removed; rules whose caps removed none are skipped.
    """
    over = (F.col("members") - F.lit(config.co_search.max_items_per_search)).alias("over")
    searches = pairs.where("members is not null").select("day", "low", F.col("high").alias("key"), over)
    searches = searches.withColumn("name", F.col("key").cast("string"))
    of_user = F.concat_ws(" at ", _user_in_hex(), F.date_format(F.timestamp_micros("start"), "yyyy-MM-dd HH:mm:ss"))
    name = F.when(F.col("id").isNull(), of_user).otherwise(F.col("session").cast("string")).alias("name")
    sessions = rows.select("browsed", F.col("session").alias("key"), F.col("cut").alias("over"), name)
    groups = {
        "session_items": (sessions.where("browsed"), config.strong_click.max_session_items),
        "basket_items": (sessions.where("not browsed"), config.co_purchase.max_basket_items),
        "co_search_items": (searches, config.co_search.max_items_per_search),
    }
    most_cut = {
        rule: frame.where("over > 0").orderBy(F.desc("over"), "key").limit(SHOWN_GROUPS).collect()
        for rule, (frame, _) in groups.items()
        if cut.get(rule)
    }
    session_keys = [row["key"] for rule in ("session_items", "basket_items") for row in most_cut.get(rule, ())]
    search_keys = [(row["low"], row["day"], row["key"]) for row in most_cut.get("co_search_items", ())]
    names = {} if usable is None else _look_up_names(usable, session_keys, search_keys)
    return [
        CutGroup(rule, names.get(row["key"], row["name"]), int(row["over"]) + groups[rule][1])
        for rule, of_rule in most_cut.items()
        for row in of_rule
    ]


def most_cut_in_window(cut: dict[str, list[tuple[int, int]]], names: "DataFrame") -> list[CutGroup]:
    """Name the items and the users' days that Swing cut most.

    A user's day is named by the first 48 bits of the user's hash, in hex, and the date.

    Args:
        cut: `swing.most_cut`, rule → [(key, members)].
        names: item (hash), item_id.
    """
    items = [key for key, _ in cut["swing_item_users"]]
    ids = dict(tuple(row) for row in names.where(F.col("item").isin(items)).select("item", "item_id").collect())
    return [
        CutGroup(rule, ids[key] if rule == "swing_item_users" else _name_of_user_day(key), members)
        for rule, groups in cut.items()
        for key, members in groups
    ]


def group_by_rule(groups: list[CutGroup]) -> dict[str, dict[str, int]]:
    """Return rule → name → members of the largest groups, the largest first."""
    rules: dict[str, dict[str, int]] = {}
    for rule, name, members in sorted(groups, key=lambda group: (group.rule, -group.members, group.name)):
        names = rules.setdefault(rule, {})
        if len(names) < SHOWN_GROUPS:
            names[name] = max(members, names.get(name, 0))
    return rules


def _user_in_hex() -> "Column":
    """Return the first 48 bits of the hash of a session's user, in hex."""
    user = F.lpad(F.hex(F.try_element_at("user", F.lit(1))), 16, "0")
    return F.lower(F.substring(user, 1, 12))


def _name_of_user_day(key: int) -> str:
    from graph_build.edges.swing_lists import DAY_BITS

    day = EPOCH + dt.timedelta(days=key % (1 << DAY_BITS))
    return f"{(key >> DAY_BITS) % (1 << 64 - DAY_BITS):012x} on {day}"


def _look_up_names(usable: "DataFrame", sessions: list[int], searches: list[tuple[int, int, int]]) -> dict[int, str]:
    """Return hash → session id or query, read in one pass over the log; a search is (user, day, hash of the query)."""
    if not sessions and not searches:
        return {}
    queries = [query for _, _, query in searches]

    def match(batches: Iterator[Any]) -> Iterator[Any]:
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        from graph_build.sessions.assemble import hash_queries

        for batch in batches:
            session = batch["session"].to_numpy()
            search, has_query = hash_queries(batch["query"])
            is_session, is_search = np.isin(session, sessions), has_query & np.isin(search, queries)
            columns = {
                "session": pa.array(session, mask=~is_session),
                "session_id": pc.if_else(is_session, batch["session_id"], None),
                "search": pa.array(search, mask=~is_search),
                "query": pc.if_else(is_search, batch["query"], None),
            }
            yield pa.record_batch(columns)

    users, days = {user for user, _, _ in searches}, {day for _, day, _ in searches}
    may_search = F.col("query").isNotNull() & F.col("user").isin(*users) & F.col("day").isin(*days)
    candidates = usable.where(F.col("session").isin(*sessions) | may_search)
    names = candidates.select("session", "session_id", "query").mapInArrow(match, _NAMES).distinct().collect()
    return {row[key]: row[name] for row in names for key, name in _NAME_COLUMNS if row[key] is not None}
