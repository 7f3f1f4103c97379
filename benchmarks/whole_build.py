"""The graph build on generated logs of growing size: cost by stage and per event, and the cost of a bad day.

    python benchmarks/whole_build.py [--events 1000000 10000000 50000000] [--skew 5000000] [--driver-memory 3g]
                                     [--without-session-ids 10000000]

The benchmark runs everything that `lightsage run` does before training, on local[2] in one Spark session. Before the
first measured build, the session is started and a small log warms it up. CPU time is that of all processes (JVM and
Python workers); memory is their peak PSS. `--skew N` builds an ordinary day of N events, and then a bad day of N
events: very many users click one item, a bot makes very many clicks, and very many items are opened after one search. A
cap's name says what it limits: `swing_item_users`, for example, limits the users of an item in Swing.

`--without-session-ids N` builds a log of N events with session ids, and then the same log without these ids; there, the
sessions are derived from users and times.
"""

import itertools
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _cost import Cost, Meter
from _event_log import BAD_EVENTS, write_log
from _page import argument_parser, print_progress, publish

from graph_build.build import GraphInputs, build_graphs
from graph_build.config import GraphConfig

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from graph_build.summary import GraphSummary


SIZES = (1_000_000, 10_000_000, 50_000_000)


@dataclass(frozen=True)
class Built:
    """One build: its cost, in total and by stage (CPU seconds), and its summary."""

    name: str
    cost: Cost
    stages: dict[str, float]
    summary: "GraphSummary"

    @property
    def events(self) -> int:
        """Number of valid events."""
        return int(self.summary.events["valid"])


def main() -> int:
    """Build every log, measure and print the page."""
    parser = argument_parser(__doc__)
    parser.add_argument("--events", nargs="*", type=int, default=SIZES)
    parser.add_argument("--skew", type=int, metavar="N", help=f"events of the day, above {BAD_EVENTS:,}")
    parser.add_argument("--without-session-ids", type=int, metavar="N")
    parser.add_argument("--driver-memory", default="3g")
    options = parser.parse_args()
    from graph_build.spark.session import session_for_one_build

    builds: list[Built] = []
    with (
        tempfile.TemporaryDirectory(prefix="lightsage-build-") as scratch,
        session_for_one_build(master="local[2]", driver_memory=options.driver_memory) as spark,
    ):
        folder = Path(scratch)
        build(spark, folder, "warm-up", 50_000)
        for events in options.events:
            builds.append(build(spark, folder, f"{events:,}", events))
            print_progress(render(builds))
        if options.without_session_ids:
            for name, has_ids in (("with session ids", True), ("without", False)):
                events = options.without_session_ids
                builds.append(build(spark, folder, f"{events:,} {name}", events, session_ids=has_ids))
                print_progress(render(builds))
        if options.skew:
            builds.append(build(spark, folder, "a day", options.skew, days=1))
            builds.append(build(spark, folder, "a bad day", options.skew, days=1, skew=True))
    page = render(builds)
    return publish(page, options.output)


def build(spark: "SparkSession", folder: Path, name: str, events: int, **options: Any) -> Built:
    """Generate a log and build its graph; `options` are those of `write_log`."""
    work = folder / name.replace(",", "").replace(" ", "-")
    log = write_log(work / "log", events, **options)
    print_progress(f"{name} …")
    cpu_at: list[tuple[str, float]] = []
    with Meter() as meter:
        summary = build_graphs(
            spark,
            GraphInputs([str(log)]),
            str(work / "graph"),
            GraphConfig(),
            progress=lambda stage, _: cpu_at.append((stage, meter.cpu())),
        )
    stages = {stage: end - begin for (stage, begin), (_, end) in itertools.pairwise(cpu_at)}
    shutil.rmtree(work)
    return Built(name, meter.cost, stages, summary)


def render(builds: list[Built]) -> str:
    """The page, in Markdown."""
    lines = [
        "# Graph build",
        "",
        *(__doc__ or "").strip().splitlines()[2:],
        "",
        "| log | events | edges | CPU s | wall s | µs CPU per event | JVM GiB | Python GiB | together GiB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for one in builds:
        cost, edges = one.cost, sum(one.summary.edges.values())
        figures = f"{cost.cpu:.0f} | {cost.wall:.0f} | {1e6 * cost.cpu / one.events:.1f}"
        memory = f"{cost.jvm:.1f} | {cost.python:.1f} | {cost.total:.1f}"
        lines.append(f"| {one.name} | {one.events:,} | {edges:,} | {figures} | {memory} |")
    lines += by_log(
        "µs of CPU per event in each stage",
        builds,
        lambda one: {stage: f"{1e6 * spent / one.events:.1f}" for stage, spent in one.stages.items()},
    )
    lines += by_log(
        "Wall seconds of each stage",
        builds,
        lambda one: {stage: f"{seconds:.1f}" for stage, seconds in one.summary.seconds.items()},
    )
    lines += by_log(
        "How many items or users each cap removed",
        builds,
        lambda one: {cap: f"{n:,}" for cap, n in one.summary.capped.items()},
    )
    lines += by_log(
        "The two groups that each cap cut most, with their sizes before the cut",
        builds,
        lambda one: {
            rule: "; ".join(f"{name} {had:,}" for name, had in list(one.summary.most_cut.get(rule, {}).items())[:2])
            for rule in one.summary.capped
        },
    )
    return "\n".join(lines) + "\n"


def by_log(title: str, builds: list[Built], cells: Callable[[Built], dict[str, str]]) -> list[str]:
    """A table with one column per log."""
    lines = ["", f"{title}:", "", f"| | {' | '.join(one.name for one in builds)} |", f"|---|{'---:|' * len(builds)}"]
    columns = [cells(one) for one in builds]
    return lines + [f"| {row} | {' | '.join(column.get(row, '') for column in columns)} |" for row in columns[0]]


if __name__ == "__main__":
    sys.exit(main())
