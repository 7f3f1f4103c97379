"""The whole graph build on generated logs of growing size: cost by stage and by event, and what a bad day costs.

    python benchmarks/whole_build.py [--events 1000000 10000000 50000000] [--skew] [--driver-memory 3g]

Everything that `lightsage run` does before training, on local[2] in one Spark session that a small log has warmed up;
its start-up is not counted. CPU is that of all processes (JVM and Python workers), memory is PSS. With `--skew` the
middle size is built again with a day that has a star item, a bot and a query that opens everything, beside a log of
as many events without them.
"""

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from _log import write_log
from _measure import Cost, Meter

from graph_build.build import GraphInputs, build_graphs
from graph_build.config import GraphConfig

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from graph_build.summary import GraphSummary


@dataclass(frozen=True)
class Built:
    """One build: what it cost, and what it says of itself."""

    name: str
    cost: Cost
    summary: "GraphSummary"

    @property
    def events(self) -> int:
        """Valid events."""
        return int(self.summary.events["valid"])


def main() -> int:
    """Build, measure, print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--events", nargs="+", type=int, default=[1_000_000, 10_000_000, 50_000_000])
    options.add_argument("--skew", action="store_true")
    options.add_argument("--driver-memory", default="3g")
    options.add_argument("--output", type=Path)
    chosen = options.parse_args()
    from graph_build.spark import session_for_one_build

    found: list[Built] = []
    with (
        tempfile.TemporaryDirectory(prefix="lightsage-build-") as scratch,
        session_for_one_build(master="local[2]", driver_memory=chosen.driver_memory) as spark,
    ):
        folder = Path(scratch)
        build(spark, folder, "warm-up", 50_000)
        for events in chosen.events:
            found.append(build(spark, folder, f"{events:,}", events))
            print(render(found), file=sys.stderr, flush=True)
        if chosen.skew:
            events = chosen.events[len(chosen.events) // 2]
            bad = build(spark, folder, f"{events:,} and a bad day", events, skew=True)
            found += [bad, build(spark, folder, "as many, without", bad.summary.events["read"])]
    page = render(found)
    if chosen.output:
        chosen.output.parent.mkdir(parents=True, exist_ok=True)
        chosen.output.write_text(page, encoding="utf-8")
    print(page)
    return 0


def build(spark: "SparkSession", folder: Path, name: str, events: int, *, skew: bool = False) -> Built:
    """Generate a log and build its graph."""
    here = folder / name.replace(",", "").replace(" ", "-")
    log = write_log(here / "log", events, skew=skew)
    print(f"{name} …", file=sys.stderr, flush=True)
    with Meter() as meter:
        summary = build_graphs(spark, GraphInputs([str(log)]), str(here / "graph"), GraphConfig())
    return Built(name, meter.cost, summary)


def render(found: list[Built]) -> str:
    """The page."""
    lines = [
        "# Graph build",
        "",
        *(__doc__ or "").strip().splitlines()[4:],
        "",
        "| log | events | edges | CPU s | wall s | µs CPU an event | JVM GiB | Python GiB | together GiB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for one in found:
        cost, edges = one.cost, sum(one.summary.edges.values())
        figures = f"{cost.cpu:.0f} | {cost.wall:.0f} | {1e6 * cost.cpu / one.events:.1f}"
        memory = f"{cost.jvm:.1f} | {cost.python:.1f} | {cost.total:.1f}"
        lines.append(f"| {one.name} | {one.events:,} | {edges:,} | {figures} | {memory} |")
    lines += ["", "Wall seconds by stage:", "", f"| stage | {' | '.join(one.name for one in found)} |"]
    lines.append(f"|---|{'---:|' * len(found)}")
    for stage in found[0].summary.seconds:
        lines.append(f"| {stage} | {' | '.join(f'{one.summary.seconds[stage]:.1f}' for one in found)} |")
    lines += [
        "",
        "Cut by caps:",
        "",
        f"| cap | {' | '.join(one.name for one in found)} |",
        f"|---|{'---:|' * len(found)}",
    ]
    for cap in found[0].summary.capped:
        lines.append(f"| {cap} | {' | '.join(f'{one.summary.capped[cap]:,}' for one in found)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
