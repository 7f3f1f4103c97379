"""Co-search edges: items that the same user opened after the same search on the same day.

The raw weight of a pair is Σ decay(day) · count(day), where count(day) is how many searches on that day led to both
items; it is the same in both directions. We use plain counts and not a cosine, because counts add up over days exactly,
and because one search of one shopper must not outweigh the searches of a hundred shoppers. The formula is our own.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from graph_build.config import CoSearchConfig
from graph_build.decay import decayed
from graph_build.edges.combine import symmetric
from graph_build.graphs import GRAPHS, AsOf
from graph_build.sessions.holdout import HoldoutCutoff, is_held_out
from graph_build.sessions.rows import by_batch

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame

    from graph_build.edges.swing_lists import CutGroups, Entries

SEARCHED_ITEMS = "day int, user bigint, search bigint, item bigint, code tinyint"
PAIRS = "day int, low bigint, high bigint, full boolean, fit boolean, members bigint"


def searched_items(rows: "DataFrame", cutoff: HoldoutCutoff | None) -> "DataFrame":
    """Return the items that each search of a user led to: day, user, search, item, code.

    `search` is the hash of the query. `code` is defined in `swing_lists`; here it has only one level.

    Args:
        rows: rows of sessions.
        cutoff: the first held-out session.
    """

    def to_table(sessions: Any) -> Any:
        import numpy as np
        import pyarrow as pa

        from graph_build.sessions.kernel import CLICK

        opened = np.flatnonzero((sessions.numbers("type") <= CLICK) & sessions.has("search"))
        owner = sessions.owner[opened]
        code = np.where(sessions.column("held").astype(np.bool_)[owner], 1, 17).astype(np.int8)
        of_event = {name: sessions.numbers(name)[opened] for name in ("user", "search", "item")}
        return pa.table({"day": sessions.column("day")[owner], **of_event, "code": code})

    needed = rows.select("day", "user", "item", "search", "type", is_held_out(cutoff).alias("held"))
    return needed.mapInArrow(by_batch(to_table), SEARCHED_ITEMS)


def search_pairs(items: "DataFrame", config: CoSearchConfig) -> "DataFrame":
    """Return each pair of items of a search: day, low, high, full and fit (whether that graph has the pair), members.

    A hash chooses which items of a search are paired, up to the cap. A row with `members` set holds no pair, but
    reports a search that the cap reduced: `low` is the user, `high` the query, and `members` the number of items before
    the cap.

    Args:
        items: `searched_items`.
        config: the cap and its seed.
    """
    return items.repartition("day", "user", "search").mapInArrow(_pair_items(config), PAIRS)


def count_cut_items(pairs: "DataFrame", config: CoSearchConfig) -> int:
    """Count the items that the cap removed from searches.

    Args:
        pairs: `search_pairs`.
        config: the cap.
    """
    return pairs.agg(F.sum(F.col("members") - config.max_items_per_search)).collect()[0][0] or 0


def daily_searches(pairs: "DataFrame") -> "DataFrame":
    """Count for each day and pair the searches that led to both items: day, low, high, full, fit."""
    counts = [F.sum(F.col(graph).cast("bigint")).alias(graph) for graph in GRAPHS]
    return pairs.where("members is null").groupBy("day", "low", "high").agg(*counts)


def weigh_searches(counts: "DataFrame", as_of: AsOf, config: CoSearchConfig) -> "DataFrame":
    """Turn daily counts into weighted pairs, in the form that `combine` describes.

    A search on the as-of day weighs 2^32.

    Args:
        counts: `daily_searches`.
        as_of: the last day of each graph.
        config: the half-life.
    """
    sums = [
        F.sum(F.col(graph) * decayed(F.col("day"), as_of_day, config.half_life_days)).alias(graph)
        for graph, as_of_day in zip(GRAPHS, as_of, strict=True)
    ]
    return symmetric(counts.groupBy("low", "high").agg(*sums)).where("full_up > 0")


def _pair_items(config: CoSearchConfig) -> Callable[[Iterator[Any]], Iterator[Any]]:
    cap, seed = config.max_items_per_search, config.seed

    def pair(batches: Iterator[Any]) -> Iterator[Any]:
        from graph_build.edges.swing_lists import cap_stream

        keys = _SearchKeys()
        # In Swing's entries, the key that is named "user" is a user's; here it is a search's.
        capped, cut = cap_stream(map(keys.entries, batches), "user", cap, seed)
        if len(capped.user):
            keys.merge()
            yield from _pairs(capped, keys, cap)
            yield _cut_searches(cut, keys)

    return pair


class _SearchKeys:
    """The day, user and query of each key; a key is one hash of these three."""

    def __init__(self) -> None:
        self._batches: list[tuple[Any, ...]] = []

    def entries(self, batch: Any) -> "Entries":
        """Hash the searches of a batch and note what the hashes stand for."""
        import numpy as np

        from graph_build.edges.swing_lists import Entries
        from graph_build.sessions.kernel import hash_pair

        parts = [batch[name].to_numpy() for name in ("day", "user", "search")]
        key = hash_pair(hash_pair(parts[0].astype(np.int64), parts[1]), parts[2])
        distinct, first = np.unique(key, return_index=True)
        self._batches.append((distinct, *(part[first] for part in parts)))
        return Entries(key, batch["item"].to_numpy(), batch["code"].to_numpy().view(np.uint8))

    def merge(self) -> None:
        """Sort the keys of all batches, so that they can be looked up."""
        import numpy as np

        keys, *parts = (np.concatenate(column) for column in zip(*self._batches, strict=True))
        self._keys, first = np.unique(keys, return_index=True)
        self.day, self.user, self.search = (part[first] for part in parts)

    def index(self, key: Any) -> Any:
        """Return the positions of keys in day, user and search."""
        import numpy as np

        return np.searchsorted(self._keys, key)


def _pairs(entries: "Entries", keys: _SearchKeys, cap: int) -> Iterator["pa.RecordBatch"]:
    """Pair each entry with every later entry of the same search, one distance in the list at a time."""
    import numpy as np
    import pyarrow as pa

    from graph_build.edges.swing_lists import graph_levels

    # Each graph keeps up to `cap` items of a search, so a list has at most twice as many.
    for step in range(1, min(2 * cap, len(entries.user))):
        same = np.flatnonzero(entries.user[step:] == entries.user[:-step])
        if len(same) == 0:
            break
        first, second = entries.item[same], entries.item[same + step]
        code = entries.code[same] & entries.code[same + step]
        columns = {
            "day": keys.day[keys.index(entries.user[same])],
            "low": np.minimum(first, second),
            "high": np.maximum(first, second),
            "full": graph_levels(code, 0) > 0,
            "fit": graph_levels(code, 1) > 0,
            "members": pa.nulls(len(same), pa.int64()),
        }
        yield from pa.table(columns).filter(pa.array(code > 0)).to_batches(100_000)


def _cut_searches(cut: "CutGroups", keys: _SearchKeys) -> "pa.RecordBatch":
    import pyarrow as pa

    index = keys.index(cut.key)
    names = {"day": keys.day[index], "low": keys.user[index], "high": keys.search[index]}
    in_no_graph = {graph: pa.nulls(len(index), pa.bool_()) for graph in GRAPHS}
    return pa.RecordBatch.from_pydict({**names, **in_no_graph, "members": cut.members})
