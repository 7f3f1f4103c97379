"""Co-search edges: items that the same user opened after the same search on the same day."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from graph_build.config import CoSearchConfig
from graph_build.decay import AsOf, decayed
from graph_build.edges.combine import symmetric
from graph_build.sessions.rows import HoldOut, by_batch, is_held

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

FOUND = "day int, user bigint, search bigint, item bigint, code tinyint"
PAIRS = "day int, low bigint, high bigint, full boolean, fit boolean, members bigint"


def found(rows: "DataFrame", held: HoldOut | None) -> "DataFrame":
    """Rows of sessions → (day, user, search, item, code): what each search of a user led to.

    `search` is a hash of the query; the code is that of `swing_lists`, with one level.
    """

    def flatten(rows: Any) -> Any:
        import numpy as np
        import pyarrow as pa

        from graph_build.sessions.kernel import CLICK

        opened = (rows.numbers("type") <= CLICK) & rows.flat("search").is_valid().to_numpy(zero_copy_only=False)
        at = np.flatnonzero(opened)
        code = np.where(rows.column("held").astype(np.bool_)[rows.owner[at]], 1, 17).astype(np.int8)
        of_event = {name: rows.numbers(name)[at] for name in ("user", "search", "item")}
        return pa.table({"day": rows.column("day")[rows.owner[at]], **of_event, "code": code})

    needed = rows.select("day", "user", "item", "search", "type", is_held(held).alias("held"))
    return needed.mapInArrow(by_batch(flatten), FOUND)


def pairs(found: "DataFrame", config: CoSearchConfig) -> "DataFrame":
    """What searches led to → (day, low, high, full, fit): each pair of a search, at most a cap of items chosen by hash.

    A row with `members` is no pair but a search that the cap cut, and how many items it had: its user stands as low,
    its query as high.
    """
    return found.repartition("day", "user", "search").mapInArrow(_pair(config), PAIRS)


def cut_items(pairs: "DataFrame", config: CoSearchConfig) -> int:
    """How many items of searches the cap cut."""
    cut = pairs.agg(F.sum(F.col("members") - config.max_items_per_search)).collect()[0][0]
    return cut or 0


def daily(found: "DataFrame") -> "DataFrame":
    """`pairs` → (day, low, high, full, fit): in how many searches of the day both were opened, in each graph."""
    counts = [F.sum(F.col(graph).cast("bigint")).alias(graph) for graph in ("full", "fit")]
    return found.where("members is null").groupBy("day", "low", "high").agg(*counts)


def weigh(counts: "DataFrame", as_of: AsOf, config: CoSearchConfig) -> "DataFrame":
    """Daily counts → pairs (`edges`): Σ decay(day) · count, the same both ways.

    Plain counts, not a cosine: counts add up over days exactly, and one shopper's single search must not outweigh
    what a hundred shoppers did.
    """
    sums = [
        F.sum(F.col(graph) * decayed(F.col("day"), as_of_day, config.half_life_days)).alias(graph)
        for graph, as_of_day in as_of._asdict().items()
    ]
    return symmetric(counts.groupBy("low", "high").agg(*sums)).where("full_up > 0")


def _pair(config: CoSearchConfig) -> Callable[[Iterator[Any]], Iterator[Any]]:
    cap, seed = config.max_items_per_search, config.seed

    def pair(batches: Iterator[Any]) -> Iterator[Any]:
        import numpy as np
        import pyarrow as pa

        from graph_build.edges.swing_lists import Entries, bounded_stream, levels
        from graph_build.sessions.kernel import mixed

        # What the key of a group, one hash, stands for.
        keys: list[tuple[Any, ...]] = []

        def entries() -> Iterator[Entries]:
            for batch in batches:
                parts = [batch[name].to_numpy() for name in ("day", "user", "search")]
                key = mixed(mixed(parts[0].astype(np.int64), parts[1]), parts[2])
                one, first = np.unique(key, return_index=True)
                keys.append((one, *(part[first] for part in parts)))
                yield Entries(key, batch["item"].to_numpy(), batch["code"].to_numpy().view(np.uint8))

        kept, cut = bounded_stream(entries(), "user", cap, seed)
        if len(kept.user) == 0:
            return
        known, day, user, search = (np.concatenate(parts) for parts in zip(*keys, strict=True))
        known, first = np.unique(known, return_index=True)
        day, user, search = day[first], user[first], search[first]
        # The k-th next entry of the same search, for every k below the cap: all pairs of a list.
        for step in range(1, min(2 * cap, len(kept.user))):
            same = np.flatnonzero(kept.user[step:] == kept.user[:-step])
            if len(same) == 0:
                break
            one, other = kept.item[same], kept.item[same + step]
            code = kept.code[same] & kept.code[same + step]
            columns = {
                "day": day[np.searchsorted(known, kept.user[same])],
                "low": np.minimum(one, other),
                "high": np.maximum(one, other),
                "full": levels(code, 0) > 0,
                "fit": levels(code, 1) > 0,
                "members": pa.nulls(len(same), pa.int64()),
            }
            yield from pa.table(columns).filter(pa.array(code > 0)).to_batches(100_000)
        place = np.searchsorted(known, cut.key)
        told = {"day": day[place], "low": user[place], "high": search[place]}
        neither = {graph: pa.nulls(len(place), pa.bool_()) for graph in ("full", "fit")}
        yield pa.RecordBatch.from_pydict({**told, **neither, "members": cut.members})

    return pair
