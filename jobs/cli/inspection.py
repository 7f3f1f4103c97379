"""`lightsage inspect`: says what files hold, what to write about them, and which command comes next."""

import dataclasses
import shlex
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomlkit

from jobs.config import load_config
from jobs.recipe import Recipe, merged, read_recipe, recipe_names

if TYPE_CHECKING:
    from graph_build.inspection.columns import Column
    from graph_build.inspection.files import FileGroup
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


def inspect(paths: Sequence[str], config: Path | None, recipe: str | None) -> tuple["Inspection", str | None]:
    """Return what paths hold, and the recipe by which they were read.

    A layout that a recipe describes is read by the recipe, unless settings are given.

    Args:
        paths: files and folders.
        config: a TOML file of settings.
        recipe: the name of a recipe.
    """
    from graph_build.inspection.files import group_files
    from graph_build.inspection.tables import inspect_groups

    groups, faults = group_files(paths)
    if recipe is None and config is None:
        recipe = recognised_recipe(groups)
    return inspect_groups(groups, faults, load_config(config, recipe).graph.input), recipe


def recognised_recipe(groups: Sequence["FileGroup"]) -> str | None:
    """Return the recipe whose layout files have; that of events comes before that of items."""
    recipes = [read_recipe(name) for name in recipe_names()]
    fitting = [
        (group.table == "items", recipe.name)
        for group in groups
        for recipe in recipes
        if recipe.fits(group.files[0], group.layout.format, group.columns)
    ]
    return min(fitting)[1] if fitting else None


def has_faults(inspection: "Inspection") -> bool:
    """Return whether a build would stop at what is left once the settings are written."""
    left = [fault for findings in inspection.tables for fault in findings.faults if fault.stops and not fault.line]
    return bool(left or inspection.faults)


def as_toml(inspection: "Inspection", recipe: str | None, config: Path | None = None) -> str:
    """Return the settings that the tables need, with comments that say why.

    Args:
        inspection: what was found out.
        recipe: the recipe that the settings begin with.
        config: a file of settings that go on top of the recipe.
    """
    document = tomlkit.document()
    files = ", ".join(path for findings in inspection.tables for path in findings.paths)
    document.add(tomlkit.comment(f"Written by `lightsage inspect {files}`, from a look at some rows: read it once."))
    settings: dict[str, Any] = read_recipe(recipe).settings if recipe else {}
    if recipe:
        document.add(tomlkit.comment(f"It begins with the recipe {recipe}: {read_recipe(recipe).about}."))
    if config is not None:
        settings = merged(settings, tomllib.loads(config.read_text(encoding="utf-8")))
    comments: dict[tuple[str, ...], str] = {}
    for findings in inspection.tables:
        if findings.table is None:
            continue
        settings = merged(settings, {"input": {**findings.input_settings, findings.table: findings.settings}})
        comments |= _comments(findings)
    document.add(tomlkit.nl())
    for name, section in settings.items():
        document.add(name, _toml_table(section, (name,), comments))
    return tomlkit.dumps(document)


def _comments(findings: "TableFindings") -> dict[tuple[str, ...], str]:
    """Return a comment for each key that is to be written."""
    table = ("input", findings.table or "events")
    comments = {
        (*(("input",) if key in findings.input_settings else table), key): text
        for key, text in findings.comments.items()
    }
    for name, own in findings.mapping.items():
        column = findings.columns.get(own) if isinstance(own, str) else None
        if column is not None and column.examples:
            comments[*table, "columns", name] = f"e.g. {', '.join(column.examples[:2])}"
    for word, n in findings.event_types.items():
        sampled = "" if findings.is_all else " in the sample"
        comments[*table, "types", word] = f"{n:,} events{sampled}"
    return comments


def _toml_table(section: dict[str, Any], path: tuple[str, ...], comments: dict[tuple[str, ...], str]) -> Any:
    table = tomlkit.table()
    plain = {key: value for key, value in section.items() if not isinstance(value, dict)}
    for key, value in plain.items():
        item = tomlkit.item(list(value) if isinstance(value, tuple) else value)
        if comment := comments.get((*path, key)):
            item.comment(" ".join(comment.split()))
        table.add(key, item)
    for key, value in section.items():
        if isinstance(value, dict) and value:
            if plain:
                table.add(tomlkit.nl())
            table.add(key, _toml_table(value, (*path, key), comments))
    return table


def next_command(inspection: "Inspection", recipe: str | None, config: Path | None) -> str | None:
    """Return the command that builds a version of the tables; None if there are no events.

    Args:
        inspection: what was found out.
        recipe: the recipe that reads them.
        config: the file of settings, if there is one or one has been written.
    """
    events = inspection.of("events")
    if not events:
        return None
    words = ["lightsage", "run", "--events", *(path for findings in events[:1] for path in findings.paths)]
    for table in ("items", "ads"):
        if of_table := inspection.of(table):
            words += [f"--{table}", of_table[0].paths[0]]
    if config is not None:
        words += ["--config", str(config)]
    elif recipe is not None:
        words += ["--recipe", recipe]
    return shlex.join([*words, "--workspace", "workspace"])


def needs_settings(inspection: "Inspection") -> bool:
    """Return whether anything must be written beyond what is configured."""
    return any(findings.settings or findings.input_settings for findings in inspection.tables if findings.table)


def describe(inspection: "Inspection", recipe: str | None) -> Iterator[str]:
    """Yield the lines for a terminal.

    Args:
        inspection: what was found out.
        recipe: the recipe that was used.
    """
    for findings in inspection.tables:
        yield from _table_lines(findings)
        yield ""
    for line in _bullets("wrong", [*inspection.faults]):
        yield line
    for line in _bullets("note", inspection.notes):
        yield line
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
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000 or unit == "GB":
            return f"{n:,.0f} {unit}" if unit == "B" else f"{n:,.1f} {unit}"
        n /= 1000
    return ""


def as_json(inspection: "Inspection", recipe: str | None) -> dict[str, Any]:
    """Return what was found out for programs.

    Args:
        inspection: what was found out.
        recipe: the recipe that was used.
    """
    return {
        "tables": [_table_json(findings) for findings in inspection.tables],
        "faults": inspection.faults,
        "notes": inspection.notes,
        "recipe": recipe,
        "next": next_command(inspection, recipe, None),
        "config": as_toml(inspection, recipe),
    }


def _table_json(findings: "TableFindings") -> dict[str, Any]:
    columns = [
        {
            "name": column.name,
            "kind": column.kind,
            "missing": column.nulls,
            "distinct": column.distinct,
            "examples": list(column.examples),
        }
        for column in findings.columns.values()
    ]
    names = ("table", "paths", "n_bytes", "n_rows", "n_sampled", "mapping", "settings", "input_settings", "event_types")
    return {
        **{name: getattr(findings, name) for name in names},
        "files": len(findings.files),
        "layout": dataclasses.asdict(findings.layout),
        "columns": columns,
        "types": findings.meanings,
        "times": dataclasses.asdict(findings.times) if findings.times else None,
        "counts": findings.counts,
        "faults": [dataclasses.asdict(fault) for fault in findings.faults],
        "notes": findings.notes,
        "why_none": findings.why_none,
    }
