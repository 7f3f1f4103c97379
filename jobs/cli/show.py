"""Prints the tables of the commands: quality, comparisons, feature groups, results and versions."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from jobs.nightly.versions import VersionInfo

if TYPE_CHECKING:
    from jobs.cli.select_features import Selection

# The columns of the quality table by protocol: (slice, metric, k).
_COLUMNS = {
    "item": (("all", "HR", 20), ("all", "HR", 100), ("all", "MRR", 20), ("tail", "HR", 100), ("cold", "HR", 100)),
    "basket": (("all", "recall", 20), ("all", "recall", 100), ("tail", "recall", 100), ("cold", "recall", 100)),
}
_COLUMNS["session"] = _COLUMNS["item"]


def print_quality(result: Mapping[str, Any], console: Console) -> None:
    """Print an evaluation as a table: a row for each model, then a row for n; the best value of a column is bold.

    Args:
        result: the content of REPORT.json.
        console: where to print.
    """
    rows: Sequence[Mapping[str, Any]] = result["rows"]
    cells = {(row["model"], row["slice"], row["metric"], row["k"]): row for row in rows}
    models = list(dict.fromkeys(row["model"] for row in rows))
    columns = _COLUMNS[result["protocol"]]
    if all(row["slice"] == "ads" for row in rows):
        columns = tuple(dict.fromkeys(("ads", metric, k) for _, metric, k in columns))
    table = Table(title=f"{result['protocol']}-to-item, as of {result['as_of']}", title_justify="left")
    table.add_column("model")
    for part, metric, k in columns:
        table.add_column(f"{'' if part == 'all' else part + ' '}{metric}@{k}", justify="right")
    best = {c: max(((cells[m, *c]["value"] or 0) for m in models if (m, *c) in cells), default=0) for c in columns}
    for model in models:
        values = []
        for column in columns:
            row = cells.get((model, *column))
            text = "–" if row is None or row["value"] is None else f"{row['value']:.3f}"
            values.append(f"[bold]{text}[/bold]" if row and row["value"] == best[column] else text)
        table.add_row(model, *values)
    counts = [cells.get((models[0], *column), {}).get("n", 0) for column in columns]
    table.add_section()
    table.add_row("n", *(f"{n:,}" for n in counts))
    console.print(table)


def print_comparison(content: Mapping[str, Any], console: Console) -> None:
    """Print the paired differences of two versions, one row for each slice and metric, and then the notes.

    Args:
        content: the result of `jobs.candidates.compare.compare_versions`.
        console: where to print.
    """
    from jobs.candidates.page import interval, signed

    first, second = content["versions"]
    table = Table(title=f"A = {first}, B = {second}: {content['protocol']}-to-item", title_justify="left")
    for name in ("answers", "metric", "A", "B", "B − A", "95% interval", "n", "B is"):
        table.add_column(name, justify="left" if name in ("answers", "metric", "B is") else "right")
    for row in content["rows"]:
        a, b = ("–" if row[side] is None else f"{row[side]:.3f}" for side in "ab")
        metric = f"{row['metric']}@{row['k']}"
        difference, n = signed(row["difference"]), f"{row['n']:,}"
        table.add_row(row["slice"], metric, a, b, difference, interval(row), n, row["verdict"])
    console.print(table)
    for note in content["notes"]:
        console.print(note, highlight=False, markup=False)


def print_selection(selection: "Selection", console: Console) -> None:
    """Print the feature groups, the quality with and without the excluded ones, and the setting that excludes them.

    Args:
        selection: the outcome of `select-features`.
        console: where to print.
    """
    table = Table(title="feature groups", title_justify="left")
    for name in ("group", "confidence", ""):
        table.add_column(name, justify="right" if name == "confidence" else "left")
    for group, confidence in selection.confidence.items():
        table.add_row(group, f"{confidence:.2f}", "kept" if group in selection.selected else "")
    console.print(table)
    print_quality({"rows": selection.rows, "protocol": selection.protocol, "as_of": "the hold-out"}, console)
    console.print(f"[model.features]\nexclude = {json.dumps(selection.excluded)}", markup=False, highlight=False)


def print_results(title: str, results: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print the results of one query, one row per result.

    Args:
        title: the title of the table.
        results: the values of each result by column, best result first.
        console: where to print.
    """
    table = Table(title=title, title_justify="left")
    for name in results[0] if results else ("no result",):
        table.add_column(name, justify="right" if name in {"rank", "score", "price"} else "left")
    for result in results:
        table.add_row(*("" if v is None else f"{v:.3f}" if isinstance(v, float) else str(v) for v in result.values()))
    console.print(table)


def print_versions(versions: Sequence[VersionInfo], console: Console) -> None:
    """Print one row per version; a dot marks the published one.

    Args:
        versions: the published versions in the order of publication, and then the unpublished ones.
        console: where to print.
    """
    table = Table()
    for name in ("", "version", "as of (UTC)", "built (UTC)", "items", "edges", "ads in flight", "follows", "remarks"):
        table.add_column(name, justify="right" if name in {"items", "edges", "ads in flight"} else "left")
    for version in versions:
        times = ("" if time is None else f"{time:%Y-%m-%d %H:%M}" for time in (version.as_of, version.created_at))
        counts = ("" if count is None else f"{count:,}" for count in (version.items, version.edges, version.ads))
        forced = [f"published despite: {', '.join(version.forced)}"] if version.forced else []
        unpublished = [] if version.published else ["not published"]
        remark = "; ".join([*unpublished, *([version.damage] if version.damage else forced), *version.remarks])
        dot = "[bold]●[/bold]" if version.current else ""
        table.add_row(dot, version.name, *times, *counts, version.parent or "", remark)
    console.print(table)


def print_diff(comparison: Mapping[str, Any], console: Console) -> None:
    """Print the changes between two versions, with the values of both beside each other.

    Args:
        comparison: the result of `jobs.nightly.versions.diff`.
        console: where to print.
    """
    table = Table(title="what changed", title_justify="left")
    table.add_column("")
    for name in comparison["versions"]:
        table.add_column(name, justify="right")
    table.add_row("as of", *comparison["as_of"])
    for key, pair in (comparison["settings"] | comparison["counts"]).items():
        table.add_row(key, *("" if v is None else f"{v:,}" if isinstance(v, int) else str(v) for v in pair))
    console.print(table)
    for kind in ("items", "ads"):
        n = comparison[kind]
        console.print(f"{kind}: {n['both']:,} in both, {n['new']:,} new, {n['gone']:,} gone", highlight=False)
    if (same := comparison["neighbours_that_stay"]) is not None:
        console.print(f"{same:.0%} of an item's 20 nearest neighbours stayed the same", highlight=False)
    if comparison["code_changed"]:
        console.print("the code changed between the two versions", highlight=False)
