"""A night that reads one new day and the stored days before it, beside a build of the whole log.

    python benchmarks/nights.py [--events 10000000] [--days 7] [--output docs/benchmarks/nights.md]

The log has so many events over so many days, on local[2] in one Spark session that a small log has warmed up; its
start-up is not counted. CPU is that of all processes (JVM and Python workers). Both give the same graph.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from _log import write_log
from _measure import Cost, Meter

from graph_build.build import GraphInputs, build_graphs
from graph_build.config import GraphConfig
from graph_build.days import store


def main() -> int:
    """Store all days but the last, then measure the last night both ways."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--events", type=int, default=10_000_000)
    options.add_argument("--days", type=int, default=7)
    options.add_argument("--output", type=Path)
    chosen = options.parse_args()
    from graph_build.spark.session import session_for_one_build

    config, costs, stages = GraphConfig(), dict[str, Cost](), dict[str, dict[str, float]]()
    with (
        tempfile.TemporaryDirectory(prefix="lightsage-nights-") as scratch,
        session_for_one_build(master="local[2]") as spark,
    ):
        folder = Path(scratch)
        warm_up, warm_store = str(write_log(folder / "warm-up", 50_000)), str(folder / "warm-store")
        store.ingest(spark, [warm_up], warm_store, config)
        build_graphs(spark, GraphInputs(days=warm_store), str(folder / "warm-graph"), config)

        each = chosen.events // chosen.days
        logs = [
            str(write_log(folder / f"log-{day}", each, days=1, first=day, shop=chosen.events))
            for day in range(chosen.days)
        ]
        kept = str(folder / "store")
        for day, log in enumerate(logs[:-1]):
            print(f"storing day {day + 1} of {chosen.days} …", file=sys.stderr, flush=True)
            store.ingest(spark, [log], kept, config)

        def measure(name: str) -> Meter:
            print(f"{name} …", file=sys.stderr, flush=True)
            return Meter()

        with measure("store the new day") as meter:
            store.ingest(spark, logs[-1:], kept, config)
        costs["store the new day"] = meter.cost
        for name, inputs in (
            ("build from stored days", GraphInputs(days=kept)),
            ("build of the whole log", GraphInputs(logs)),
        ):
            with measure(name) as meter:
                summary = build_graphs(spark, inputs, str(folder / name.replace(" ", "-")), config)
            costs[name], stages[name] = meter.cost, summary.seconds
        size = sum(path.stat().st_size for path in Path(kept).rglob("*") if path.is_file())
    page = render(chosen.events, chosen.days, size, costs, stages)
    if chosen.output:
        chosen.output.parent.mkdir(parents=True, exist_ok=True)
        chosen.output.write_text(page, encoding="utf-8")
    print(page)
    return 0


def render(events: int, days: int, size: int, costs: dict[str, Cost], stages: dict[str, dict[str, float]]) -> str:
    """The page."""
    *night, whole = costs.values()
    saved = [1 - sum(getattr(cost, what) for cost in night) / getattr(whole, what) for what in ("cpu", "wall")]
    lines = [
        "# A night",
        "",
        *(__doc__ or "").strip().splitlines()[2:],
        "",
        f"{events:,} events over {days} days:",
        "",
        "| | CPU s | wall s | peak GiB |",
        "|---|---:|---:|---:|",
        *(f"| {name} | {cost.cpu:.0f} | {cost.wall:.0f} | {cost.total:.1f} |" for name, cost in costs.items()),
        "",
        f"The night saves {saved[0]:.0%} of the CPU and {saved[1]:.0%} of the time. "
        f"The store holds {size / events:.0f} bytes an event.",
        "",
        f"| wall seconds | {' | '.join(stages)} |",
        f"|---|{'---:|' * len(stages)}",
    ]
    first, second = stages.values()
    lines += [f"| {stage} | {first[stage]:.1f} | {second[stage]:.1f} |" for stage in first]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
