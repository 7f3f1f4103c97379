"""Swing edges in Spark: two items are linked if both were opened by pairs of users who otherwise share few items.

The formula (arXiv 2010.05525) is in `swing_kernel`. Entries (user, item) are shuffled three times. The first shuffle is
by item, to cap the users of an item. The second is by user, to cap and pack each user's list; a user above the cap has
one list for each day. The third is by bucket of items, to score pairs of items; in this one the lists travel packed, in
a few large rows instead of one row per entry. The two graphs of a build (`full`, and `fit` without the held-out
sessions) share these shuffles.
"""

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from graph_build.config import SwingConfig
from graph_build.edges.combine import symmetric
from graph_build.graphs import GRAPHS
from graph_build.sessions.holdout import HoldoutCutoff, is_held_out
from graph_build.sessions.rows import by_batch

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

# About how many entries one bucket holds, and one partition of the first two shuffles: a few hundred MB in a worker.
BUCKET_ENTRIES = 10_000_000
PARTITION_ENTRIES = 2_000_000

ENTRIES = "user bigint, item bigint, code tinyint"
CAPPED = "user bigint, item bigint, code tinyint, members bigint"
PACKED = "bucket bigint, payload binary, cut string, key bigint, members bigint"
SCORED = "low bigint, high bigint, full bigint, fit bigint"
# Group that a cap cuts → the name of the rule in the summary.
RULES = {"item": "swing_item_users", "user": "swing_user_items"}


def strengths(config: SwingConfig) -> list[float]:
    """Return the distinct weights of the behaviours, ascending; a level is a position in this list, counted from 1."""
    weights = {config.view_weight, config.click_weight, config.add_to_cart_weight, config.purchase_weight}
    return sorted(weights)


def fixed_point(config: SwingConfig) -> int:
    """Return how many integer units make up a score of 1.0.

    It is a power of two, at most 2^44, small enough that no sum overflows int64.
    """
    users, strongest = config.max_item_users, max(strengths(config))
    heaviest = (config.user_offset + config.min_user_items) ** -config.user_exponent * strongest
    largest = users * (users - 1) / 2 * heaviest**2 / (config.alpha + 2)
    return 1 << min(44, 62 - math.ceil(math.log2(max(largest, 1.0))))


def user_item_entries(rows: "DataFrame", cutoff: HoldoutCutoff | None, config: SwingConfig) -> "DataFrame":
    """Return one entry per item event: user (`user_day_key`), item, code (as in `swing_lists`).

    Args:
        rows: rows of sessions.
        cutoff: the first held-out session.
        config: the weights of the behaviours.
    """
    levels = {weight: level for level, weight in enumerate(strengths(config), 1)}
    by_type = (config.view_weight, config.click_weight, config.add_to_cart_weight, config.purchase_weight)
    level_of_type = [*(levels[weight] for weight in by_type), 0]

    def to_table(sessions: Any) -> Any:
        import numpy as np
        import pyarrow as pa

        from graph_build.edges.swing_lists import user_day_key

        level = np.array(level_of_type, np.int8)[sessions.numbers("type")]
        # The low four bits hold the level in `full`, the next four that in `fit`: 17 · level if both are the same.
        code = np.where(sessions.column("held").astype(np.bool_)[sessions.owner], level, level * 17).astype(np.int8)
        user = user_day_key(sessions.numbers("user"), sessions.column("day")[sessions.owner])
        columns = {"user": pa.array(user), "item": sessions.events("item"), "code": pa.array(code)}
        return pa.table(columns).filter(sessions.events("item").is_valid())

    needed = rows.select("user", "day", "item", "type", is_held_out(cutoff).alias("held"))
    return needed.mapInArrow(by_batch(to_table), ENTRIES)


def plan_partitions(entries: int, cores: int) -> tuple[int, int]:
    """Return the numbers of partitions and of buckets: enough for every core, each of bounded size.

    Args:
        entries: about how many user-item entries there are.
        cores: cores of the cluster.
    """
    return max(cores, -(-entries // PARTITION_ENTRIES)), max(cores, -(-entries // BUCKET_ENTRIES))


def pack_user_lists(entries: "DataFrame", config: SwingConfig, parts: int, buckets: int) -> "DataFrame":
    """Cap the entries and pack the lists of users for each bucket: bucket, payload, cut, key, members.

    A row with `cut` set holds no list, but reports a user's day or an item that a cap reduced: `key` is its key, and
    `members` its size before the cap.

    Args:
        entries: `user_item_entries`.
        config: the caps and their seed.
        parts: number of partitions.
        buckets: number of buckets of items.
    """
    from graph_build.edges.swing_lists import DAY_BITS

    by_item = entries.repartition(parts, "item").mapInArrow(_cap_items(config), CAPPED)
    by_user = by_item.repartition(parts, F.shiftright("user", DAY_BITS))
    return by_user.mapInArrow(_pack_users(config, _bucket_keys(entries.sparkSession, buckets)), PACKED)


def score_pairs(lists: "DataFrame", config: SwingConfig, buckets: int) -> "DataFrame":
    """Score the packed lists; return pairs (in the form of `combine`) of each item with its top-k partners.

    A pair stays if either of its items has the other among its partners. The score is the same in both directions, in
    units of 1 / `fixed_point`.

    Args:
        lists: `pack_user_lists`.
        config: the formula and k.
        buckets: number of buckets with which the lists were packed.
    """
    packed = lists.where("bucket is not null").select("bucket", "payload").repartition(buckets, "bucket")
    scored = packed.mapInArrow(_score_bucket(config, buckets), SCORED)
    # Both items of a pair give it the same score.
    return symmetric(scored.groupBy("low", "high").agg(F.max("full").alias("full"), F.max("fit").alias("fit")))


def count_cut_entries(lists: "DataFrame", config: SwingConfig) -> dict[str, int]:
    """Return rule → number of entries that the rule's cap removed.

    Args:
        lists: `pack_user_lists`.
        config: the caps.
    """
    caps = {"item": config.max_item_users, "user": config.max_user_items}
    sums = lists.where("cut is not null").groupBy("cut").agg(F.count(F.lit(1)), F.sum("members")).collect()
    by_kind = {row[0]: (row[1], row[2]) for row in sums}
    counts = {}
    for kind, rule in RULES.items():
        groups, members = by_kind.get(kind, (0, 0))
        counts[rule] = members - caps[kind] * groups
    return counts


def most_cut(lists: "DataFrame", limit: int) -> dict[str, list[tuple[int, int]]]:
    """Return rule → (key, members) of the items or the users' days that the rule's cap cut most.

    Args:
        lists: `pack_user_lists`.
        limit: groups per rule.
    """
    groups = {}
    for kind, rule in RULES.items():
        cut = lists.where(F.col("cut") == kind).orderBy(F.desc("members"), "key").limit(limit)
        groups[rule] = [(row["key"], row["members"]) for row in cut.select("key", "members").collect()]
    return groups


def _bucket_keys(spark: "SparkSession", buckets: int) -> list[int]:
    """Return a key for each partition of `repartition(buckets, key)`, so that no two buckets share a partition."""
    partition = F.expr(f"pmod(hash(id), {buckets})").alias("partition")
    keys = spark.range(64 * buckets).select("id", partition).groupBy("partition").agg(F.min("id")).collect()
    return [key for _, key in sorted(tuple(row) for row in keys)]


def _read_entries(batch: "pa.RecordBatch") -> Any:
    import numpy as np

    from graph_build.edges.swing_lists import Entries

    code = batch["code"].to_numpy().view(np.uint8)
    return Entries(batch["user"].to_numpy(), batch["item"].to_numpy(), code)


def _cap_items(config: SwingConfig) -> Callable[[Iterator[Any]], Iterator[Any]]:
    cap, seed = config.max_item_users, config.seed

    def cap_users_of_items(batches: Iterator[Any]) -> Iterator[Any]:
        import numpy as np
        import pyarrow as pa

        from graph_build.edges.swing_lists import cap_stream

        capped, cut = cap_stream(map(_read_entries, batches), "item", cap, seed)
        columns = {
            "user": capped.user,
            "item": capped.item,
            "code": capped.code.view(np.int8),
            "members": pa.nulls(len(capped.user), "int64"),
        }
        yield from pa.table(columns).to_batches(100_000)
        # A row that reports a cut item has no code. The item's key stands in `item` and also in `user`, where it only
        # spreads these rows over partitions.
        nulls = pa.nulls(len(cut.key), "int8")
        columns = {"user": cut.key, "item": cut.key, "code": nulls, "members": cut.members}
        yield from pa.table(columns).to_batches(100_000)

    return cap_users_of_items


def _pack_users(config: SwingConfig, keys: list[int]) -> Callable[[Iterator[Any]], Iterator[Any]]:
    cap, seed = config.max_user_items, config.seed

    def pack(batches: Iterator[Any]) -> Iterator[Any]:
        import pyarrow as pa

        from graph_build.edges.swing_lists import UNBOUNDED, CutGroups, cap_stream, pack_lists, user_lists

        schema = pa.schema(
            [("bucket", "int64"), ("payload", "binary"), ("cut", "string"), ("key", "int64"), ("members", "int64")]
        )

        def cut_rows(kind: str, cut: CutGroups) -> pa.RecordBatch:
            n = len(cut.key)
            columns = [pa.nulls(n, "int64"), pa.nulls(n, "binary"), pa.repeat(kind, n), cut.key, cut.members]
            return pa.record_batch([pa.array(c) if not isinstance(c, pa.Array) else c for c in columns], schema=schema)

        cut_items = []

        def entries() -> Iterator[Any]:
            for batch in batches:
                cut = batch.filter(batch["members"].is_valid())
                cut_items.append(cut_rows("item", CutGroups(cut["item"].to_numpy(), cut["members"].to_numpy())))
                yield _read_entries(batch.filter(batch["members"].is_null()))

        by_day, _ = cap_stream(entries(), "user", UNBOUNDED, seed)
        lists, cut_users = user_lists(by_day, cap, seed)
        yield from cut_items
        yield cut_rows("user", cut_users)
        for bucket, payload in pack_lists(lists, len(keys)):
            row = [{"bucket": keys[bucket], "payload": payload}]
            yield pa.RecordBatch.from_pylist(row, schema=schema)

    return pack


def _score_bucket(config: SwingConfig, buckets: int) -> Callable[[Iterator[Any]], Iterator[Any]]:
    level_strengths = [0.0, *strengths(config)]
    formula: dict[str, Any] = {
        "alpha": config.alpha,
        "user_offset": config.user_offset,
        "user_exponent": config.user_exponent,
    }
    scale = fixed_point(config)

    def score(batches: Iterator[Any]) -> Iterator[Any]:
        import numpy as np
        import pyarrow as pa

        from graph_build.edges.swing_kernel import UserLists, drop_uncounted, swing_top_k
        from graph_build.edges.swing_lists import bucket_of, graph_levels, unpack_lists

        payloads = [value.as_py() for batch in batches for value in batch["payload"]]
        if not payloads:
            return
        bucket, lists, keys = unpack_lists(payloads)
        del payloads
        anchors = bucket_of(keys, buckets) == bucket
        for number, graph in enumerate(GRAPHS):
            levels = graph_levels(lists.levels, number)
            of_graph = drop_uncounted(UserLists(lists.indptr, lists.items, levels), config.min_user_items)
            src, dst, raw = swing_top_k(
                of_graph, np.array(level_strengths), anchors, top_k=config.top_k, scale=scale, **formula
            )
            ends = keys[src], keys[dst]
            columns = {
                "low": np.minimum(*ends),
                "high": np.maximum(*ends),
                graph: raw,
                GRAPHS[1 - number]: np.zeros(len(raw), np.int64),
            }
            yield from pa.table(columns).select(["low", "high", *GRAPHS]).to_batches(100_000)

    return score
