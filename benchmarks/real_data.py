"""Builds and evaluates a version of each public data set, with the default settings.

    python benchmarks/real_data.py DATA [--only yoochoose …] [--output docs/real-data.md]

DATA has one folder per data set (yoochoose, diginetica, rees46, completejourney, trivago) with its input tables;
docs/real-data.md names the files. The data sets run one after the other, each in processes of its own.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _page import argument_parser, print_progress, publish, write_page

from jobs.progress import memory_bytes

TYPES = ("strong_click", "swing", "co_search")
TRAIN, TEST = "train_events.parquet", "test_events.parquet"


@dataclass(frozen=True)
class Dataset:
    """One public data set: its event files, and the protocol that suits its test events."""

    name: str
    source: str
    protocol: str | None = "item"
    events: tuple[str, ...] = (TRAIN,)


DATASETS = (
    Dataset("yoochoose", "RecSys Challenge 2015, clicks of 25–28 September 2014; tested on the 29th"),
    Dataset("diginetica", "CIKM Cup 2016; tested on the last week's sessions"),
    Dataset("rees46", "REES46 multi-category store, 1 October 2019; tested on the 2nd"),
    Dataset(
        "completejourney", "dunnhumby Complete Journey, purchases to 4 December 2017; tested on the rest", "basket"
    ),
    Dataset(
        "trivago",
        "RecSys Challenge 2019, a sample of 7–8 November 2018",
        None,
        ("events.parquet", "impression_events.parquet"),
    ),
)


@dataclass
class Outcome:
    """The outcome of one data set."""

    dataset: Dataset
    summary: dict[str, Any]
    seconds: float
    peak_gib: float
    quality: list[dict[str, Any]] = field(default_factory=list)
    ads: list[dict[str, Any]] = field(default_factory=list)


def main() -> int:
    """Run every data set and write the page."""
    parser = argument_parser(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="+", choices=[d.name for d in DATASETS])
    options = parser.parse_args()
    outcomes = []
    for dataset in DATASETS:
        if options.only is None or dataset.name in options.only:
            print_progress(f"{dataset.name} …")
            outcomes.append(measure(dataset, options.data / dataset.name))
            write_page(render(outcomes), options.output)  # so that a later failure loses nothing
    return publish(render(outcomes), options.output)


def measure(dataset: Dataset, folder: Path) -> Outcome:
    """Build a version in a new workspace and evaluate it."""
    with tempfile.TemporaryDirectory(prefix=f"lightsage-{dataset.name}-") as scratch:
        workspace = Path(scratch) / "workspace"
        tables = [
            v
            for t in ("items", "ads")
            if (folder / f"{t}.parquet").exists()
            for v in (f"--{t}", folder / f"{t}.parquet")
        ]
        events = [folder / name for name in dataset.events]
        seconds, peak = command("run", "--events", *events, *tables, "--workspace", workspace)
        version = json.loads((workspace / "current").read_text())["version"]
        summary = json.loads((workspace / "versions" / version / "graph" / "summary.json").read_text())
        outcome = Outcome(dataset, summary, seconds, peak)
        if dataset.protocol:
            evaluate = ("evaluate", "--workspace", workspace, "--events", folder / TEST, "--protocol", dataset.protocol)
            report = Path(scratch) / "report.json"
            command(*evaluate, "--baselines", "--output", report)
            outcome.quality = json.loads(report.read_text())["rows"]
            if (folder / "ads.parquet").exists():
                command(*evaluate, "--baselines", "--ads-only", "--output", report)
                outcome.ads = json.loads(report.read_text())["rows"]
        return outcome


def command(*arguments: object) -> tuple[float, float]:
    """Run `lightsage` with these arguments; returns wall seconds and the peak memory of all its processes in GiB."""
    began, peak = time.perf_counter(), 0
    process = subprocess.Popen(
        [Path(sys.executable).with_name("lightsage"), *map(str, arguments)], stdout=subprocess.DEVNULL
    )
    while process.poll() is None:
        peak = max(peak, memory_bytes(process.pid))
        time.sleep(0.2)
    if process.returncode:
        raise SystemExit(f"lightsage {arguments[0]} ended with {process.returncode}")
    return time.perf_counter() - began, peak / 2**30


def render(outcomes: list[Outcome]) -> str:
    """The page: the builds, then the quality beside the baselines."""
    lines = [
        "# Real data",
        "",
        *raw_files(),
        "## How the figures were made",
        "",
        "A version of each public data set was built and evaluated with the default settings. Repeat it with",
        "",
        "    .venv/bin/python benchmarks/real_data.py DATA --output docs/real-data.md",
        "",
        "where `DATA` has one folder per data set with `train_events.parquet` and `test_events.parquet` (trivago:",
        "`events.parquet` and `impression_events.parquet`) and, if the set has them, `items.parquet` and `ads.parquet`",
        "in the columns of the [input tables](input.md). Training and test events are split by time; only the",
        f"evaluation reads the test events. Measured on {os.cpu_count()} cores. The baselines have fixed settings;",
        "[quality](quality.md) compares tuned ones. The [glossary](glossary.md) explains the columns and models.",
        "",
        *(f"- **{o.dataset.name}**: {o.dataset.source}" for o in outcomes),
        "",
        "## What was built",
        "",
        "| data | events | items | strong-click edges | Swing edges | co-search edges | wall s | peak GiB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for o in outcomes:
        edges = o.summary["edges"]
        figures = (
            o.summary["events"]["valid"],
            o.summary["nodes"],
            *(edges[t] for t in ("strong_click", "swing", "co_search")),
        )
        lines.append(
            f"| {o.dataset.name} | {' | '.join(f'{n:,}' for n in figures)} | {o.seconds:.0f} | {o.peak_gib:.1f} |"
        )
    for o in outcomes:
        for title, rows in (("all items", o.quality), ("ads in flight", o.ads)):
            if rows:
                lines += ["", f"## {o.dataset.name}: {o.dataset.protocol} protocol, {title}", "", *quality(rows)]
    return "\n".join(lines) + "\n"


def raw_files() -> list[str]:
    """The section on the raw files, as it stands in the present page."""
    page = Path(__file__).parents[1] / "docs" / "real-data.md"
    _, begin, rest = page.read_text(encoding="utf-8").partition("## From the raw files")
    return [*(begin + rest.partition("## How the figures were made")[0]).rstrip().splitlines(), ""]


def quality(rows: list[dict[str, Any]]) -> list[str]:
    """One table: a row per model, the bootstrap interval of LightSAGE, and the n of each column."""
    shown = [r for r in rows if r["value"] is not None and r["metric"] != "skipped"]
    columns = list(dict.fromkeys((r["slice"], r["metric"], r["k"]) for r in shown))
    cell = {(r["model"], r["slice"], r["metric"], r["k"]): r for r in rows}
    names = [f"{'' if part == 'all' else part + ' '}{metric}@{k}" for part, metric, k in columns]
    lines = [f"| model | {' | '.join(names)} |", f"|---|{'---:|' * len(columns)}"]
    for model in dict.fromkeys(r["model"] for r in rows):
        values = [cell[model, *c]["value"] for c in columns]
        texts = ["–" if value is None else f"{value:.3f}" for value in values]
        lines.append(f"| {model} | {' | '.join(texts)} |")
    first = rows[0]["model"]
    ours = [cell[first, *c] for c in columns]
    spans = ["" if r["low"] is None else f"{r['low']:.3f}–{r['high']:.3f}" for r in ours]
    lines.append(f"| *{first}, 95%* | {' | '.join(spans)} |")
    counts = [f"{r['n']:,}" for r in ours]
    lines.append(f"| *n* | {' | '.join(counts)} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
