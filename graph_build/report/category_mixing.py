"""Counts how the graph's edges join the top-level categories of the catalogue."""

from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from graph_build.report.statistics import CategoryMixing

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

SAMPLE_PAIRS = 500_000
MOST_CATEGORIES = 12
OTHERS = "others"


def measure_mixing(pairs: "DataFrame", total: int, items: "DataFrame") -> CategoryMixing | None:
    """Count the pairs of neighbours between every two categories.

    Args:
        pairs: low, high (hashes of items); one row per pair and edge type.
        total: about how many pairs there are. If it is at least twice SAMPLE_PAIRS, only a sample is counted, chosen by
            hash.
        items: item (hash), category (levels joined by ">").

    Returns:
        None if there are fewer than two categories, or no pair joins two items with categories.
    """
    level = F.trim(F.split("category", ">")[0])
    levels = items.select("item", level.alias("level")).where("level != ''")
    largest = levels.groupBy("level").count().orderBy(F.desc("count"), "level").limit(MOST_CATEGORIES).collect()
    categories = [row[0] for row in largest]
    if len(categories) < 2:
        return None
    number = F.when(F.col("level").isin(categories), F.array_position(F.array(*map(F.lit, categories)), F.col("level")))
    numbered = levels.select("item", F.coalesce(number, F.lit(len(categories) + 1)).cast("int").alias("category"))
    numbered = numbered.persist()
    one_in = max(1, total // SAMPLE_PAIRS)
    sample = pairs.where(F.pmod(F.xxhash64("low", "high"), F.lit(one_in)) == 0)
    low = numbered.select(F.col("item").alias("low"), F.col("category").alias("a"))
    high = numbered.select(F.col("item").alias("high"), F.col("category").alias("b"))
    cells = sample.join(low, "low").join(high, "high").groupBy("a", "b").count().collect()
    numbered.unpersist()
    if any(len(categories) < max(row["a"], row["b"]) for row in cells):
        categories = [*categories, OTHERS]
    return _tabulate(categories, [(row[0] - 1, row[1] - 1, row[2]) for row in cells])


def _tabulate(categories: list[str], cells: list[tuple[int, int, int]]) -> CategoryMixing | None:
    counts = [[0] * len(categories) for _ in categories]
    for a, b, n in cells:
        counts[a][b] += n
        counts[b][a] += n
    ends = [sum(row) for row in counts]
    all_ends = sum(ends)
    if all_ends == 0:
        return None
    within = sum(counts[i][i] for i in range(len(categories))) / all_ends
    expected = sum((n / all_ends) ** 2 for n in ends)
    return CategoryMixing(categories, counts, all_ends // 2, within, expected)
