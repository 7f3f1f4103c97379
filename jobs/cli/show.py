"""What the commands show on a terminal: quality tables and the results of a query."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from jobs.nightly.versions import VersionInfo

if TYPE_CHECKING:
    from jobs.cli.select_features import Selection

_COLUMNS = {
    "item": (("all", "HR", 20), ("all", "HR", 100), ("all", "MRR", 20), ("tail", "HR", 100), ("cold", "HR", 100)),
    "basket": (("all", "recall", 20), ("all", "recall", 100), ("tail", "recall", 100), ("cold", "recall", 100)),
}
_COLUMNS["session"] = _COLUMNS["item"]


def print_quality(result: Mapping[str, Any], console: Console) -> None:
    """REPORT.json as a table: a row a model, the best of each column bold, n below."""
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
        shown = []
        for column in columns:
            row = cells.get((model, *column))
            text = "–" if row is None or row["value"] is None else f"{row['value']:.3f}"
            shown.append(f"[bold]{text}[/bold]" if row and row["value"] == best[column] else text)
        table.add_row(model, *shown)
    counts = [cells.get((models[0], *column), {}).get("n", 0) for column in columns]
    table.add_section()
    table.add_row("n", *(f"{n:,}" for n in counts))
    console.print(table)


def print_selection(selection: "Selection", console: Console) -> None:
    """The groups with their confidence, what is found with all and without the others, and how to leave those out."""
    table = Table(title="feature groups", title_justify="left")
    for name in ("group", "confidence", ""):
        table.add_column(name, justify="right" if name == "confidence" else "left")
    for group, sure in selection.confidence.items():
        table.add_row(group, f"{sure:.2f}", "kept" if group in selection.kept else "")
    console.print(table)
    print_quality({"rows": selection.rows, "protocol": selection.protocol, "as_of": "the hold-out"}, console)
    console.print(f"[model.features]\nexclude = {json.dumps(selection.excluded)}", markup=False, highlight=False)


def print_results(title: str, results: Sequence[Mapping[str, Any]], console: Console) -> None:
    """The results of one query, a row an item."""
    table = Table(title=title, title_justify="left")
    for name in results[0] if results else ("no result",):
        table.add_column(name, justify="right" if name in {"rank", "score", "price"} else "left")
    for result in results:
        table.add_row(*("" if v is None else f"{v:.3f}" if isinstance(v, float) else str(v) for v in result.values()))
    console.print(table)


def print_versions(versions: Sequence[VersionInfo], console: Console) -> None:
    """A row a version, the published one marked."""
    table = Table()
    for name in ("", "version", "as of (UTC)", "built (UTC)", "items", "edges", "follows", "remarks"):
        table.add_column(name, justify="right" if name in {"items", "edges"} else "left")
    for one in versions:
        times = ("" if time is None else f"{time:%Y-%m-%d %H:%M}" for time in (one.as_of, one.created_at))
        counts = ("" if count is None else f"{count:,}" for count in (one.items, one.edges))
        remark = one.damage or (f"forced against: {', '.join(one.forced)}" if one.forced else "")
        table.add_row("[bold]●[/bold]" if one.current else "", one.name, *times, *counts, one.parent or "", remark)
    console.print(table)


def print_diff(found: Mapping[str, Any], console: Console) -> None:
    """What changed, the first version's figure and the second's beside each other."""
    table = Table(title="what changed", title_justify="left")
    table.add_column("")
    for name in found["versions"]:
        table.add_column(name, justify="right")
    table.add_row("as of", *found["as_of"])
    for key, pair in (found["settings"] | found["counts"]).items():
        table.add_row(key, *("" if v is None else f"{v:,}" if isinstance(v, int) else str(v) for v in pair))
    console.print(table)
    for kind in ("items", "ads"):
        n = found[kind]
        console.print(f"{kind}: {n['both']:,} in both, {n['new']:,} new, {n['gone']:,} gone", highlight=False)
    if found["neighbours_that_stay"] is not None:
        console.print(f"of an item's 20 nearest {found['neighbours_that_stay']:.0%} stay", highlight=False)
    if found["code_changed"]:
        console.print("the code changed between them", highlight=False)
