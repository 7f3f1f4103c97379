"""A nightly build from one new day and the stored days before it, compared with a build from the whole log.

    python benchmarks/nights.py [--events 10000000] [--days 7] [--output docs/benchmarks/nights.md]

A night can build its graph from its new day and the stored days before it, or from the whole log. Both builds run on
local[2] in one Spark session, and give the same graph. Before they are measured, the session is started and a small
log warms it up. CPU time and memory are those of all processes (JVM and Python workers).
"""

import sys
import tempfile
from pathlib import Path

from _cost import Cost, Meter
from _event_log import write_log
from _page import argument_parser, print_progress, publish

from graph_build.build import GraphInputs, build_graphs
from graph_build.config import GraphConfig
from graph_build.days.ingest import ingest


def main() -> int:
    """Store all days but the last, then measure the last night in both ways."""
    parser = argument_parser(__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--days", type=int, default=7)
    options = parser.parse_args()
    from graph_build.spark.session import session_for_one_build

    config, costs, stages = GraphConfig(), dict[str, Cost](), dict[str, dict[str, float]]()
    with (
        tempfile.TemporaryDirectory(prefix="lightsage-nights-") as scratch,
        session_for_one_build(master="local[2]") as spark,
    ):
        folder = Path(scratch)
        warm_up, warm_store = str(write_log(folder / "warm-up", 50_000)), str(folder / "warm-store")
        ingest(spark, [warm_up], warm_store, config)
        build_graphs(spark, GraphInputs(days=warm_store), str(folder / "warm-graph"), config)

        per_day = options.events // options.days
        logs = [
            str(write_log(folder / f"log-{day}", per_day, days=1, first=day, shop=options.events))
            for day in range(options.days)
        ]
        stored = str(folder / "store")
        for day, log in enumerate(logs[:-1]):
            print_progress(f"storing day {day + 1} of {options.days} …")
            ingest(spark, [log], stored, config)

        def measure(name: str) -> Meter:
            print_progress(f"{name} …")
            return Meter()

        with measure("store the new day") as meter:
            ingest(spark, logs[-1:], stored, config)
        costs["store the new day"] = meter.cost
        for name, inputs in (
            ("build from stored days", GraphInputs(days=stored)),
            ("build of the whole log", GraphInputs(logs)),
        ):
            with measure(name) as meter:
                summary = build_graphs(spark, inputs, str(folder / name.replace(" ", "-")), config)
            costs[name], stages[name] = meter.cost, summary.seconds
        size = sum(path.stat().st_size for path in Path(stored).rglob("*") if path.is_file())
    page = render(options.events, options.days, size, costs, stages)
    return publish(page, options.output)


def render(events: int, days: int, size: int, costs: dict[str, Cost], stages: dict[str, dict[str, float]]) -> str:
    """The page, in Markdown."""
    *night, whole = costs.values()
    saved = [1 - sum(getattr(cost, what) for cost in night) / getattr(whole, what) for what in ("cpu", "wall")]
    lines = [
        "# A night's graph build",
        "",
        *(__doc__ or "").strip().splitlines()[2:],
        "",
        f"{events:,} events over {days} days:",
        "",
        "| | CPU s | wall s | peak GiB |",
        "|---|---:|---:|---:|",
        *(f"| {name} | {cost.cpu:.0f} | {cost.wall:.0f} | {cost.total:.1f} |" for name, cost in costs.items()),
        "",
        f"Storing the new day and building from stored days together take {saved[0]:.0%} less CPU and {saved[1]:.0%} "
        f"less time than a build of the whole log. The stored days take {size / events:.0f} bytes per event.",
        "",
        f"| wall seconds | {' | '.join(stages)} |",
        f"|---|{'---:|' * len(stages)}",
    ]
    first, second = stages.values()
    lines += [f"| {stage} | {first[stage]:.1f} | {second[stage]:.1f} |" for stage in first]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
