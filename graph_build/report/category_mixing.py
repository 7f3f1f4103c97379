"""How edges mix the top levels of the catalogue's categories: counted on a sample of pairs of any graph."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

SAMPLE_PAIRS = 500_000
MOST_CATEGORIES = 12
OTHER = "others"


@dataclass(frozen=True)
class Mixing:
    """Pairs between categories: `counts[i][j]` of categories i and j, symmetric; `pairs` were looked at in all.

    `within` is the share of pairs inside one category, `expected` what it would be if ends met by chance.
    """

    categories: list[str]
    counts: list[list[int]]
    pairs: int
    within: float
    expected: float


def measure_mixing(pairs: "DataFrame", total: int, items: "DataFrame") -> Mixing | None:
    """The mixing of the whole graph's pairs, or None where fewer than two categories are joined by any.

    Args:
        pairs: `edges.PAIRS`. total: about how many there are; above SAMPLE_PAIRS they are sampled by hash.
        items: item (hash), category.
    """
    level = F.trim(F.split("category", ">")[0])
    top = items.select("item", level.alias("level")).where("level != ''")
    sizes = top.groupBy("level").count().orderBy(F.desc("count"), "level").limit(MOST_CATEGORIES).collect()
    names = [row[0] for row in sizes]
    if len(names) < 2:
        return None
    place = F.when(F.col("level").isin(names), F.array_position(F.array(*map(F.lit, names)), F.col("level")))
    top = top.select("item", F.coalesce(place, F.lit(len(names) + 1)).cast("int").alias("at")).persist()
    one_in = max(1, total // SAMPLE_PAIRS)
    chosen = pairs.where((F.col("full_up") > 0) | (F.col("full_down") > 0))
    chosen = chosen.where(F.pmod(F.xxhash64("low", "high"), F.lit(one_in)) == 0)
    low = top.select(F.col("item").alias("low"), F.col("at").alias("a"))
    high = top.select(F.col("item").alias("high"), F.col("at").alias("b"))
    found = chosen.join(low, "low").join(high, "high").groupBy("a", "b").count().collect()
    top.unpersist()
    names = [*names, OTHER] if any(len(names) in (row[0] - 1, row[1] - 1) for row in found) else names
    counts = [[0] * len(names) for _ in names]
    for a, b, n in found:
        counts[a - 1][b - 1] += n
        counts[b - 1][a - 1] += n
    ends = [sum(row) for row in counts]
    all_ends = sum(ends)
    if all_ends == 0:
        return None
    within = sum(counts[i][i] for i in range(len(names))) / all_ends
    expected = sum((n / all_ends) ** 2 for n in ends)
    return Mixing(names, counts, all_ends // 2, within, expected)
