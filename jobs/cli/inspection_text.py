"""The content of inspected files, as lines for a terminal."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from jobs.recipe import Recipe, read_recipe, recipe_names

if TYPE_CHECKING:
    from graph_build.inspection.columns import Column
    from graph_build.inspection.findings import TableFindings
    from graph_build.inspection.tables import Inspection

_WIDEST_NAME, _WIDEST_EXAMPLES = 40, 60
_SHOWN_TYPES = 12
_UNITS = {
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "day": "days",
    "order": "an order without times",
}
_MOST_OTHER_COLUMNS = 6


def describe(inspection: "Inspection", recipe: str | None) -> Iterator[str]:
    """Yield the lines for a terminal.

    Args:
        inspection: the content of the files.
        recipe: the recipe that was used.
    """
    for findings in inspection.tables:
        yield from _table_lines(findings)
        yield ""
    yield from _bullets("wrong", inspection.faults)
    yield from _bullets("note", inspection.notes)
    if recipe:
        yield from _recipe_lines(read_recipe(recipe))


def _table_lines(findings: "TableFindings") -> Iterator[str]:
    n = len(findings.files)
    size = f"{n:,} file{'s' * (n > 1)}, {_bytes(findings.n_bytes)}"
    paths = ", ".join(findings.paths[:4]) + " …" * (len(findings.paths) > 4)
    yield f"{findings.table or 'not a table'}  {paths}  ({size})"
    if findings.table is None:
        yield f"  this is none of events, items and ads: {findings.why_none}"
        if findings.columns:
            yield f"  columns  {', '.join(findings.columns)}"
        return
    yield f"  format   {_format(findings)}"
    looked = "all of them looked at" if findings.is_all else f"{findings.n_sampled:,} of them looked at"
    yield f"  rows     {'' if findings.is_all else 'about '}{findings.n_rows:,}, {looked}"
    if findings.times is not None:
        yield f"  times    {_times(findings)}"
    if findings.counts:
        where = "" if findings.is_all else " in the sample"
        yield f"  ids      {', '.join(f'{count:,} {name}' for name, count in findings.counts.items())}{where}"
    yield ""
    yield from _column_lines(findings)
    if findings.event_types:
        yield ""
        yield from _type_lines(findings)
    to_write = list(dict.fromkeys(fault.line for fault in findings.faults if fault.line))
    wrong = [_without_file(fault.message, findings) for fault in findings.faults if not fault.line]
    if to_write or wrong or findings.notes:
        yield ""
    for line in (*_bullets("to write", to_write), *_bullets("wrong", wrong), *_bullets("note", findings.notes)):
        yield f"  {line}"


def _without_file(message: str, findings: "TableFindings") -> str:
    return message.removeprefix(f"{findings.files[0]}: ")


def _format(findings: "TableFindings") -> str:
    layout = findings.layout
    if layout.format != "csv":
        return {"json": "JSON, one object a line", "parquet": "parquet"}.get(layout.format, layout.format) + (
            f", {layout.compression}" if layout.compression else ""
        )
    separator = {"\t": "a tab", "\x01": "\\x01"}.get(layout.separator, f'"{layout.separator}"')
    parts = [
        f"CSV, separated by {separator}",
        "with a header" if layout.header else "without a header",
        findings.input_settings.get("encoding") or layout.encoding.removesuffix("-sig"),
        "decimal comma" if layout.decimal == "," else "",
        layout.compression,
    ]
    return ", ".join(part for part in parts if part)


def _times(findings: "TableFindings") -> str:
    from graph_build.inspection.facts import shown_time

    times = findings.times
    assert times is not None
    if times.unit == "order":
        return _UNITS["order"]
    text = f"{shown_time(times.first)} to {shown_time(times.last)} UTC, {times.days:,} day{'s' * (times.days > 1)}"
    parts = [text, _UNITS[times.unit] if times.unit else "", "" if times.by_hour else "whole days only"]
    return ", ".join(part for part in parts if part)


def _column_lines(findings: "TableFindings") -> Iterator[str]:
    names = {part: name for name, own in findings.mapping.items() for part in ([own] if isinstance(own, str) else own)}
    columns = [column for column in findings.columns.values() if column.name != "#" or "#" in names]
    columns.sort(key=lambda column: column.name not in names)
    shown = [c for c in columns if c.name in names] + [c for c in columns if c.name not in names][:_MOST_OTHER_COLUMNS]
    rows: list[tuple[str, ...]] = [("column", "is", "read as", "missing", "examples")]
    rows += [_column_row(column, names.get(column.name, "–")) for column in shown]
    yield from _aligned(rows)
    if rest := [column.name for column in columns[len(shown) :]]:
        names_of_rest = ", ".join(rest[:12]) + " …" * (len(rest) > 12)
        yield f"  … and {len(rest):,} more that are not read: {names_of_rest}"


def _column_row(column: "Column", name: str) -> tuple[str, ...]:
    examples = ", ".join(column.examples)
    if len(examples) > _WIDEST_EXAMPLES:
        examples = f"{examples[: _WIDEST_EXAMPLES - 1]}…"
    missing = f"{column.nulls / column.n:.0%}" if column.nulls else ""
    own = column.name if len(column.name) <= _WIDEST_NAME else f"{column.name[: _WIDEST_NAME - 1]}…"
    return own, column.kind, name, missing, " ".join(examples.split())


def _type_lines(findings: "TableFindings") -> Iterator[str]:
    rows = [("event type", "rows", "means")]
    for word, n in list(findings.event_types.items())[:_SHOWN_TYPES]:
        rows.append((word, f"{n:,}", findings.meanings.get(word) or "? (say what it means)"))
    yield from _aligned(rows)
    if len(findings.event_types) > _SHOWN_TYPES:
        yield f"  … and {len(findings.event_types) - _SHOWN_TYPES:,} more"


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _bullets(title: str, texts: Sequence[str]) -> Iterator[str]:
    for n, text in enumerate(texts):
        yield f"{title if not n else '':<8} {text}"


def _recipe_lines(recipe: Recipe) -> Iterator[str]:
    yield f"recipe   {recipe.name}: {recipe.about}"
    yield from _bullets("left out", [recipe.left_out] if recipe.left_out else [])


def recipe_list() -> Iterator[str]:
    """Yield a line for each recipe."""
    recipes = [read_recipe(name) for name in recipe_names()]
    width = max(len(recipe.name) for recipe in recipes)
    for recipe in recipes:
        files = "; ".join(f"--{table} {files}" for table, files in recipe.files.items())
        yield f"{recipe.name:<{width}}  {recipe.about}"
        yield f"{'':<{width}}  {files}"


def _bytes(n: float) -> str:
    for unit in ("B", "kB", "MB"):
        if n < 1000:
            return f"{n:,.0f} {unit}" if unit == "B" else f"{n:,.1f} {unit}"
        n /= 1000
    return f"{n:,.1f} GB"
