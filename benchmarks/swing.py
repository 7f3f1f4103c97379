"""Swing in Spark compared with a DataFrame-only version, a naive self-join, and the bare kernel in one process.

    python benchmarks/swing.py [--edges 250000 2500000 25000000] [--output docs/benchmarks/swing.md]

Every version reads the same log of user-item edges from Parquet, applies the same caps, keeps the top partners of each
item, and writes these pairs to Parquet. The log is generated from a fixed seed and follows a power law. *DataFrame
only* and *self-join* compute Swing with Spark SQL alone; the *bare kernel* is LightSAGE's kernel on plain arrays, in
one process and without Spark. The other versions run in one Spark session on local[2], which is started and warmed up
by a small log before they are measured. CPU time is that of all processes (JVM and Python workers); memory is their
peak PSS.
"""

import itertools
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _cost import Cost, Meter
from _page import argument_parser, print_progress, publish

from graph_build.config import SwingConfig
from graph_build.edges import swing

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

CONFIG = SwingConfig()
SMALL, MEDIUM = 250_000, 2_500_000
CODE = 1  # views; the code of edges in the full graph only
Scores = dict[tuple[int, int], float]


def main() -> int:
    """Run every version at every size that it can handle, and print the costs and how far the results agree."""
    parser = argument_parser(__doc__)
    parser.add_argument("--edges", nargs="+", type=int, default=[SMALL, MEDIUM, 10 * MEDIUM])
    options = parser.parse_args()
    from graph_build.spark.session import session_for_one_build

    costs: dict[tuple[str, int], Cost] = {}
    entries: dict[int, int] = {}
    agree: list[str] = []
    with (
        tempfile.TemporaryDirectory(prefix="lightsage-swing-") as scratch,
        session_for_one_build(master="local[2]") as spark,
    ):
        folder = Path(scratch)
        warm_up = write_log(folder / "warm-up.parquet", 20_000)
        for form in FORMS:
            FORMS[form][0](spark, warm_up, folder / "warm-up" / form)
        for edges in options.edges:
            path = write_log(folder / f"{edges}.parquet", edges)
            entries[edges] = pq.read_metadata(path).num_rows
            scores: dict[str, Scores] = {}
            for form, (run, largest) in FORMS.items():
                if largest is not None and edges > largest:
                    continue
                print_progress(f"{edges:,} edges, {form} …")
                with Meter() as meter:
                    run(spark, path, folder / str(edges) / form)
                costs[form, edges] = meter.cost
                print_progress(f"  {meter.cost}")
                if edges <= SMALL:
                    scores[form] = read_scores(folder / str(edges) / form)
            agree += [agreement(edges, scores)] if scores else []
    page = render(costs, entries, agree)
    return publish(page, options.output)


def write_log(path: Path, edges: int, seed: int = 0) -> Path:
    """Write about `edges` distinct user-item edges, by power laws of users and items; some of both exceed the caps."""
    rng = np.random.default_rng(seed)
    users, items = edges // 12, edges // 50
    degree = np.minimum(rng.zipf(1.6, users) + 2, 1000)
    degree = (degree * (1.15 * edges / degree.sum())).astype(np.int64) + 1
    user = np.repeat(np.arange(users), degree)
    share = np.cumsum(np.arange(1, items + 1) ** -0.8)
    item = np.searchsorted(share / share[-1], rng.random(len(user)))
    pair = np.unique(user * items + item)
    pair = pair[rng.permutation(len(pair))[:edges]]
    scatter = np.int64(-7046029254386353131)  # ids are hashes, so their order means nothing
    columns = {"user": pair // items * scatter, "item": pair % items * scatter}
    pq.write_table(pa.table(columns), path, row_group_size=1_000_000)
    return path


# The versions


def ours(spark: "SparkSession", log: Path, out: Path) -> None:
    """Swing as the graph build computes it."""
    from pyspark.sql import functions as F

    edges = spark.read.parquet(str(log)).withColumn("code", F.lit(CODE).cast("tinyint"))
    parts, buckets = swing.plan_partitions(pq.read_metadata(log).num_rows, spark.sparkContext.defaultParallelism)
    lists = swing.pack_user_lists(edges, CONFIG, parts, buckets)
    swing.score_pairs(lists, CONFIG, buckets).select("low", "high", "full_up").write.parquet(str(out))


def bare(spark: "SparkSession", log: Path, out: Path) -> None:
    """The same caps and kernel on plain arrays, in this process alone."""
    from graph_build.edges import swing_kernel, swing_lists

    table = pq.read_table(log)
    code = np.full(len(table), CODE, np.uint8)
    entries = swing_lists.Entries(table["user"].to_numpy(), table["item"].to_numpy(), code)
    entries, _ = swing_lists.cap_entries(entries, "item", CONFIG.max_item_users, CONFIG.seed)
    entries, _ = swing_lists.cap_entries(entries, "user", CONFIG.max_user_items, CONFIG.seed)
    _, lists, known = swing_lists.unpack_lists([payload for _, payload in swing_lists.pack_lists(entries, 1)])
    src, dst, raw = swing_kernel.swing_top_k(
        swing_kernel.drop_uncounted(lists, CONFIG.min_user_items),
        np.array([0.0, *swing.strengths(CONFIG)]),
        np.ones(len(known), np.bool_),
        alpha=CONFIG.alpha,
        user_offset=CONFIG.user_offset,
        user_exponent=CONFIG.user_exponent,
        top_k=CONFIG.top_k,
        scale=swing.fixed_point(CONFIG),
    )
    out.mkdir(parents=True)
    pq.write_table(pa.table({"low": known[src], "high": known[dst], "full_up": raw}), out / "part.parquet")


def dataframe_only(spark: "SparkSession", log: Path, out: Path) -> None:
    """Swing in SQL functions only, written with care.

    User pairs come from the users of each item, not from a join. Pairs that share only one item are not scored.
    """
    from pyspark.sql import functions as F

    edges = capped(spark.read.parquet(str(log))).persist()
    size = F.count(F.lit(1))
    weight = F.pow(CONFIG.user_offset + size, F.lit(-CONFIG.user_exponent))
    users = edges.groupBy("user").agg(size.alias("n"), weight.alias("w")).where("n > 1")
    weighted = edges.join(users, "user")
    item_users = weighted.groupBy("item").agg(F.sort_array(F.collect_list(F.struct("user", "w"))).alias("users"))
    pairs = (
        item_users.where(F.size("users") > 1)
        .select("item", "users", F.posexplode("users").alias("at", "u"))
        .select("item", "u", F.explode(F.slice("users", F.col("at") + 2, F.size("users"))).alias("v"))
        .select(
            "item", F.col("u.user").alias("a"), F.col("v.user").alias("b"), (F.col("u.w") * F.col("v.w")).alias("w")
        )
        .groupBy("a", "b")
        .agg(F.collect_list("item").alias("items"), F.first("w").alias("w"))
        .where(F.size("items") > 1)
    )
    scored = (
        pairs.select("items", (F.col("w") / (CONFIG.alpha + F.size("items"))).alias("score"))
        .select("items", "score", F.explode("items").alias("one"))
        .select("one", "score", F.explode("items").alias("other"))
        .where("one != other")
        .groupBy("one", "other")
        .agg(F.sum("score").alias("score"))
    )
    top_k(scored).write.parquet(str(out))
    edges.unpersist()


def self_join(spark: "SparkSession", log: Path, out: Path) -> None:
    """The formula, written as joins of the edges with themselves."""
    from pyspark.sql import functions as F

    edges = capped(spark.read.parquet(str(log))).persist()
    sizes = edges.groupBy("user").agg(F.count(F.lit(1)).alias("n")).where("n > 1")
    one = edges.join(sizes, "user").select(F.col("user").alias("a"), "item", F.col("n").alias("n_a"))
    other = edges.join(sizes, "user").select(F.col("user").alias("b"), "item", F.col("n").alias("n_b"))
    met = one.join(other, "item").where("a < b").persist()
    common = met.groupBy("a", "b").agg(F.count(F.lit(1)).alias("common"))
    left = met.select("a", "b", "n_a", "n_b", F.col("item").alias("one"))
    right = met.select("a", "b", F.col("item").alias("other"))
    weight = F.pow(
        (CONFIG.user_offset + F.col("n_a")) * (CONFIG.user_offset + F.col("n_b")), F.lit(-CONFIG.user_exponent)
    )
    scored = (
        left.join(right, ["a", "b"])
        .where("one != other")
        .join(common, ["a", "b"])
        .groupBy("one", "other")
        .agg(F.sum(weight / (CONFIG.alpha + F.col("common"))).alias("score"))
    )
    top_k(scored).write.parquet(str(out))
    met.unpersist()
    edges.unpersist()


FORMS: dict[str, tuple[Callable[["SparkSession", Path, Path], None], int | None]] = {
    "LightSAGE": (ours, None),
    "DataFrame only": (dataframe_only, MEDIUM),
    "self-join": (self_join, SMALL),
    "bare kernel": (bare, None),
}


def capped(edges: "DataFrame") -> "DataFrame":
    """Apply the caps of `swing_lists.cap_entries`, in SQL."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    edges.sparkSession.conf.set("spark.sql.ansi.enabled", "false")  # the hash wraps around
    signed = F.col("chance").bitwiseXOR(F.lit(-(2**63)))  # has the order of the unsigned hash
    by_item = Window.partitionBy("item").orderBy(signed)
    by_user = Window.partitionBy("user").orderBy(signed)
    chance = mixed(F.col("user").bitwiseXOR(mixed(F.col("item") + F.lit(CONFIG.seed))))
    return (
        edges.withColumn("chance", chance)
        .withColumn("rank", F.row_number().over(by_item))
        .where(F.col("rank") <= CONFIG.max_item_users)
        .withColumn("rank", F.row_number().over(by_user))
        .where(F.col("rank") <= CONFIG.max_user_items)
        .select("user", "item")
    )


def mixed(x: "Column") -> "Column":
    """The finaliser of SplitMix64 on signed 64-bit integers."""
    from pyspark.sql import functions as F

    x = x + F.lit(0x9E3779B97F4A7C15 - 2**64)
    x = x.bitwiseXOR(F.shiftrightunsigned(x, 30)) * F.lit(0xBF58476D1CE4E5B9 - 2**64)
    x = x.bitwiseXOR(F.shiftrightunsigned(x, 27)) * F.lit(0x94D049BB133111EB - 2**64)
    return x.bitwiseXOR(F.shiftrightunsigned(x, 31))


def top_k(scored: "DataFrame") -> "DataFrame":
    """Keep the best partners of each item."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    best = Window.partitionBy("one").orderBy(F.desc("score"), "other")
    return scored.withColumn("rank", F.row_number().over(best)).where(F.col("rank") <= CONFIG.top_k).drop("rank")


# Results


def read_scores(folder: Path) -> Scores:
    """Read the scores of pairs; the smaller item comes first."""
    table = pq.read_table(folder)
    one, other, score = table.columns
    score = score.to_numpy() / (swing.fixed_point(CONFIG) if "full_up" in table.column_names else 1)
    ends = np.sort(np.stack([one.to_numpy(), other.to_numpy()]), axis=0).tolist()
    return dict(zip(zip(*ends, strict=True), score.tolist(), strict=True))


def agreement(edges: int, results: dict[str, Scores]) -> str:
    """How far the versions differ: in the scores of pairs that all of them kept, and in the pairs they kept.

    Versions may keep different pairs if several partners at the end of a top list have equal scores, because sums of
    floats round differently.
    """
    shared = set.intersection(*(set(scores) for scores in results.values()))
    apart = max(max(s[pair] for s in results.values()) - min(s[pair] for s in results.values()) for pair in shared)
    largest = max(len(scores) for scores in results.values())
    return (
        f"With {edges:,} edges, {len(shared):,} pairs are kept by all versions, and no version keeps more than "
        f"{largest:,}. The scores of a pair differ by at most {apart:.1e}."
    )


def render(costs: dict[tuple[str, int], Cost], entries: dict[int, int], agree: list[str]) -> str:
    """The page, in Markdown."""
    lines = [
        "# Swing",
        "",
        *(__doc__ or "").strip().splitlines()[2:],
        "",
        "| edges | version | CPU s | wall s | JVM GiB | Python GiB | together GiB | CPU relative to ours |",
        "|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    for (form, edges), cost in costs.items():
        ratio = cost.cpu / costs["LightSAGE", edges].cpu
        figures = (
            f"{cost.cpu:.1f} | {cost.wall:.1f} | {cost.jvm:.1f} | {cost.python:.1f} | {cost.total:.1f} | {ratio:.2f}"
        )
        lines.append(f"| {entries[edges]:,} | {form} | {figures} |")
    lines += ["", *agree]
    sizes = sorted(entries)
    for small, large in itertools.pairwise(sizes):
        growth = costs["LightSAGE", large].cpu / costs["LightSAGE", small].cpu
        lines.append(
            f"From {small:,} to {large:,} edges ({large / small:.0f} times as many), LightSAGE's CPU time "
            f"becomes {growth:.1f} times as long."
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
