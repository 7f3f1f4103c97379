"""The whole graph build on generated logs of growing size: cost by stage and by event, and what a bad day costs.

    python benchmarks/whole_build.py [--events 1000000 10000000 50000000] [--skew 5000000] [--driver-memory 3g]

Everything that `lightsage run` does before training, on local[2] in one Spark session that a small log has warmed up;
its start-up is not counted. CPU is that of all processes (JVM and Python workers), memory is PSS. `--skew N` builds one
day of N events, then one of as many events with a star item, a bot and a query that opens everything among them.
"""

import argparse
import itertools
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from _log import BAD_EVENTS, write_log
from _measure import Cost, Meter

from graph_build.build import GraphInputs, build_graphs
from graph_build.config import GraphConfig

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from graph_build.summary import GraphSummary


SIZES = (1_000_000, 10_000_000, 50_000_000)


@dataclass(frozen=True)
class Built:
    """One build: what it cost, altogether and by stage (CPU seconds), and what it says of itself."""

    name: str
    cost: Cost
    stages: dict[str, float]
    summary: "GraphSummary"

    @property
    def events(self) -> int:
        """Valid events."""
        return int(self.summary.events["valid"])


def main() -> int:
    """Build, measure, print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--events", nargs="*", type=int, default=SIZES)
    options.add_argument("--skew", type=int, metavar="N", help=f"events of the day, above {BAD_EVENTS:,}")
    options.add_argument("--driver-memory", default="3g")
    options.add_argument("--output", type=Path)
    chosen = options.parse_args()
    from graph_build.spark.session import session_for_one_build

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
            found.append(build(spark, folder, "a day", chosen.skew, days=1))
            found.append(build(spark, folder, "a bad day", chosen.skew, days=1, skew=True))
    page = render(found)
    if chosen.output:
        chosen.output.parent.mkdir(parents=True, exist_ok=True)
        chosen.output.write_text(page, encoding="utf-8")
    print(page)
    return 0


def build(spark: "SparkSession", folder: Path, name: str, events: int, *, days: int = 7, skew: bool = False) -> Built:
    """Generate a log and build its graph."""
    here = folder / name.replace(",", "").replace(" ", "-")
    log = write_log(here / "log", events, days=days, skew=skew)
    print(f"{name} …", file=sys.stderr, flush=True)
    marks: list[tuple[str, float]] = []
    with Meter() as meter:
        summary = build_graphs(
            spark,
            GraphInputs([str(log)]),
            str(here / "graph"),
            GraphConfig(),
            progress=lambda stage, _: marks.append((stage, meter.cpu())),
        )
    stages = {stage: end - begin for (stage, begin), (_, end) in itertools.pairwise(marks)}
    shutil.rmtree(here)
    return Built(name, meter.cost, stages, summary)


def render(found: list[Built]) -> str:
    """The page."""
    lines = [
        "# Graph build",
        "",
        *(__doc__ or "").strip().splitlines()[2:],
        "",
        "| log | events | edges | CPU s | wall s | µs CPU an event | JVM GiB | Python GiB | together GiB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for one in found:
        cost, edges = one.cost, sum(one.summary.edges.values())
        figures = f"{cost.cpu:.0f} | {cost.wall:.0f} | {1e6 * cost.cpu / one.events:.1f}"
        memory = f"{cost.jvm:.1f} | {cost.python:.1f} | {cost.total:.1f}"
        lines.append(f"| {one.name} | {one.events:,} | {edges:,} | {figures} | {memory} |")
    lines += by_log(
        "µs of CPU an event, by stage",
        found,
        lambda one: {stage: f"{1e6 * spent / one.events:.1f}" for stage, spent in one.stages.items()},
    )
    lines += by_log(
        "Wall seconds by stage",
        found,
        lambda one: {stage: f"{seconds:.1f}" for stage, seconds in one.summary.seconds.items()},
    )
    lines += by_log("Cut by caps", found, lambda one: {cap: f"{n:,}" for cap, n in one.summary.capped.items()})
    lines += by_log(
        "Cut most, with its size before",
        found,
        lambda one: {
            rule: "; ".join(f"{name} {had:,}" for name, had in list(one.summary.most_cut.get(rule, {}).items())[:2])
            for rule in one.summary.capped
        },
    )
    return "\n".join(lines) + "\n"


def by_log(title: str, found: list[Built], cells: Callable[[Built], dict[str, str]]) -> list[str]:
    """A table with a column a log."""
    lines = ["", f"{title}:", "", f"| | {' | '.join(one.name for one in found)} |", f"|---|{'---:|' * len(found)}"]
    columns = [cells(one) for one in found]
    return lines + [f"| {row} | {' | '.join(column.get(row, '') for column in columns)} |" for row in columns[0]]


if __name__ == "__main__":
    sys.exit(main())
