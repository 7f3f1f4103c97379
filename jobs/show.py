"""What the commands show on a terminal: quality tables and the results of a query."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

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


def print_results(title: str, results: Sequence[Mapping[str, Any]], console: Console) -> None:
    """The results of one query, a row an item."""
    table = Table(title=title, title_justify="left")
    for name in results[0] if results else ("no result",):
        table.add_column(name, justify="right" if name in {"rank", "score", "price"} else "left")
    for result in results:
        table.add_row(*("" if v is None else f"{v:.3f}" if isinstance(v, float) else str(v) for v in result.values()))
    console.print(table)
