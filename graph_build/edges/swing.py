"""Swing edges: items that the same pairs of otherwise different users opened (arXiv 2010.05525).

Three shuffles: by item, to bound an item's users; by user, to bound a user's items and pack the lists; by bucket of
items, to score. From the second on the lists travel packed, a few large rows instead of one row an entry. The whole
graph and the fit graph (without the hold-out sessions) go the same way together.
"""

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from graph_build.config import SwingConfig
from graph_build.edges.combine import symmetric
from graph_build.sessions.rows import HoldOut, by_batch, is_held

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

# User-item entries in one bucket, and in one partition on the way there: some hundred MB in a Python worker.
BUCKET_ENTRIES = 10_000_000
PARTITION_ENTRIES = 2_000_000

BOUNDED = "user bigint, item bigint, code tinyint, members bigint"
PACKED = "bucket bigint, payload binary, cut string, key bigint, members bigint"
SCORED = "low bigint, high bigint, full bigint, fit bigint"


def strengths(config: SwingConfig) -> list[float]:
    """The weights of the behaviours in ascending order; an entry's level is its place, from 1."""
    weights = {config.view_weight, config.click_weight, config.add_to_cart_weight, config.purchase_weight}
    return sorted(weights)


def fixed_point(config: SwingConfig) -> int:
    """The raw score of 1.0: the largest power of two, up to 2^44, with which no int64 sum overflows."""
    users, strongest = config.max_item_users, max(strengths(config))
    heaviest = (config.user_offset + config.min_user_items) ** -config.user_exponent * strongest
    most = users * (users - 1) / 2 * heaviest**2 / (config.alpha + 2)
    return 1 << min(44, 62 - math.ceil(math.log2(max(most, 1.0))))


def entries(rows: "DataFrame", held: HoldOut | None, config: SwingConfig) -> "DataFrame":
    """Rows of sessions → (user, item, code tinyint): a row an item event, user and code as in `swing_lists`."""
    places = {weight: place for place, weight in enumerate(strengths(config), 1)}
    of_type = [
        places[w] for w in (config.view_weight, config.click_weight, config.add_to_cart_weight, config.purchase_weight)
    ]

    def flatten(rows: Any) -> Any:
        import numpy as np
        import pyarrow as pa

        from graph_build.edges.swing_lists import of_day

        level = np.array([*of_type, 0], np.int8)[rows.numbers("type")]
        code = np.where(rows.column("held").astype(np.bool_)[rows.owner], level, level * 17).astype(np.int8)
        user = of_day(rows.numbers("user"), rows.column("day")[rows.owner])
        columns = {"user": pa.array(user), "item": rows.flat("item"), "code": pa.array(code)}
        return pa.table(columns).filter(rows.flat("item").is_valid())

    needed = rows.select("user", "day", "item", "type", is_held(held).alias("held"))
    return needed.mapInArrow(by_batch(flatten), "user bigint, item bigint, code tinyint")


def plan(rows: int, cores: int) -> tuple[int, int]:
    """How many partitions and buckets about `rows` entries go through: enough for every core, each of bounded size."""
    return max(cores, -(-rows // PARTITION_ENTRIES)), max(cores, -(-rows // BUCKET_ENTRIES))


def packed(found: "DataFrame", config: SwingConfig, parts: int, buckets: int) -> "DataFrame":
    """Entries → packed user lists for each bucket, and a row for each user and item that a cap cut (`cut` not null)."""
    from graph_build.edges.swing_lists import DAY_BITS

    by_item = found.repartition(parts, "item").mapInArrow(_bound_items(config), BOUNDED)
    by_user = by_item.repartition(parts, F.shiftright("user", DAY_BITS))
    return by_user.mapInArrow(_pack_users(config, _keys(found.sparkSession, buckets)), PACKED)


def score(lists: "DataFrame", config: SwingConfig, buckets: int) -> "DataFrame":
    """Packed lists → pairs (`edges`): the top-K partners of each item, whichever of the two chose the other.

    The score is the same both ways; its unit is `fixed_point`.
    """
    work = lists.where("bucket is not null").select("bucket", "payload").repartition(buckets, "bucket")
    scored = work.mapInArrow(_scorer(config, buckets), SCORED)
    # Both ends give the same score.
    return symmetric(scored.groupBy("low", "high").agg(F.max("full").alias("full"), F.max("fit").alias("fit")))


def cut_counts(lists: "DataFrame", config: SwingConfig) -> dict[str, int]:
    """How many entries each cap cut."""
    caps = {"item": ("swing_item_users", config.max_item_users), "user": ("swing_user_items", config.max_user_items)}
    cut = lists.where("cut is not null").groupBy("cut").agg(F.count(F.lit(1)), F.sum("members")).collect()
    found = {row[0]: (row[1], row[2]) for row in cut}
    counts = {}
    for kind, (name, cap) in caps.items():
        groups, members = found.get(kind, (0, 0))
        counts[name] = members - cap * groups
    return counts


def most_cut(lists: "DataFrame", most: int) -> dict[str, list[tuple[int, int]]]:
    """By cap, the (key, members) of the items and the users' days that it cut most."""
    named = {}
    for kind, rule in (("item", "swing_item_users"), ("user", "swing_user_items")):
        cut = lists.where(F.col("cut") == kind).orderBy(F.desc("members"), "key").limit(most)
        named[rule] = [(row["key"], row["members"]) for row in cut.select("key", "members").collect()]
    return named


def _keys(spark: "SparkSession", buckets: int) -> list[int]:
    """For each partition of `repartition(buckets, key)` a key that goes there, so that no two buckets share one."""
    place = F.expr(f"pmod(hash(id), {buckets})").alias("place")
    found = spark.range(64 * buckets).select("id", place).groupBy("place").agg(F.min("id")).collect()
    return [key for _, key in sorted(tuple(row) for row in found)]


def _read(batch: "pa.RecordBatch") -> Any:
    import numpy as np

    from graph_build.edges.swing_lists import Entries

    code = batch["code"].to_numpy().view(np.uint8)
    return Entries(batch["user"].to_numpy(), batch["item"].to_numpy(), code)


def _bound_items(config: SwingConfig) -> Callable[[Iterator[Any]], Iterator[Any]]:
    cap, seed = config.max_item_users, config.seed

    def bound(batches: Iterator[Any]) -> Iterator[Any]:
        import numpy as np
        import pyarrow as pa

        from graph_build.edges.swing_lists import bounded_stream

        kept, cut = bounded_stream(map(_read, batches), "item", cap, seed)
        n, blank = len(kept.user), pa.nulls
        columns = {"user": kept.user, "item": kept.item, "code": kept.code.view(np.int8), "members": blank(n, "int64")}
        yield from pa.table(columns).to_batches(100_000)
        # A row of a cut item has no code; its key stands as the item, the user only spreads such rows.
        n = len(cut.key)
        columns = {"user": cut.key, "item": cut.key, "code": blank(n, "int8"), "members": cut.members}
        yield from pa.table(columns).to_batches(100_000)

    return bound


def _pack_users(config: SwingConfig, keys: list[int]) -> Callable[[Iterator[Any]], Iterator[Any]]:
    cap, seed = config.max_user_items, config.seed

    def pack(batches: Iterator[Any]) -> Iterator[Any]:
        import pyarrow as pa

        from graph_build.edges.swing_lists import UNBOUNDED, Cut, bounded_stream, packed, user_lists

        schema = pa.schema(
            [("bucket", "int64"), ("payload", "binary"), ("cut", "string"), ("key", "int64"), ("members", "int64")]
        )

        def cut_rows(kind: str, cut: Cut) -> pa.RecordBatch:
            n = len(cut.key)
            columns = [pa.nulls(n, "int64"), pa.nulls(n, "binary"), pa.repeat(kind, n), cut.key, cut.members]
            return pa.record_batch([pa.array(c) if not isinstance(c, pa.Array) else c for c in columns], schema=schema)

        cut_items = []

        def entries() -> Iterator[Any]:
            for batch in batches:
                told = batch.filter(batch["members"].is_valid())
                cut_items.append(cut_rows("item", Cut(told["item"].to_numpy(), told["members"].to_numpy())))
                yield _read(batch.filter(batch["members"].is_null()))

        once, _ = bounded_stream(entries(), "user", UNBOUNDED, seed)
        kept, cut = user_lists(once, cap, seed)
        yield from cut_items
        yield cut_rows("user", cut)
        for bucket, payload in packed(kept, len(keys)):
            row = [{"bucket": keys[bucket], "payload": payload}]
            yield pa.RecordBatch.from_pylist(row, schema=schema)

    return pack


def _scorer(config: SwingConfig, buckets: int) -> Callable[[Iterator[Any]], Iterator[Any]]:
    strength = [0.0, *strengths(config)]
    formula: dict[str, Any] = {
        "alpha": config.alpha,
        "user_offset": config.user_offset,
        "user_exponent": config.user_exponent,
    }
    units = fixed_point(config)

    def score_bucket(batches: Iterator[Any]) -> Iterator[Any]:
        import numpy as np
        import pyarrow as pa

        from graph_build.edges.swing_kernel import UserLists, counted, swing_top_k
        from graph_build.edges.swing_lists import GRAPHS, bucket_of, levels, unpacked

        payloads = [value.as_py() for batch in batches for value in batch["payload"]]
        if not payloads:
            return
        bucket, lists, known = unpacked(payloads)
        del payloads
        anchors = bucket_of(known, buckets) == bucket
        for graph in range(len(GRAPHS)):
            mine = counted(UserLists(lists.indptr, lists.items, levels(lists.levels, graph)), config.min_user_items)
            src, dst, raw = swing_top_k(mine, np.array(strength), anchors, top_k=config.top_k, scale=units, **formula)
            ends = known[src], known[dst]
            columns = {
                "low": np.minimum(*ends),
                "high": np.maximum(*ends),
                GRAPHS[graph]: raw,
                GRAPHS[1 - graph]: np.zeros(len(raw), np.int64),
            }
            yield from pa.table(columns).select(["low", "high", *GRAPHS]).to_batches(100_000)

    return score_bucket
