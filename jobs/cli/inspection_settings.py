"""The settings that inspected files need, as a TOML file with comments that give the reasons."""

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomlkit

from jobs.recipe import merged, read_recipe

if TYPE_CHECKING:
    from graph_build.inspection.findings import TableFindings
    from graph_build.inspection.tables import Inspection


def as_toml(inspection: "Inspection", recipe: str | None, config: Path | None = None) -> str:
    """Return the settings that the tables need, with comments that give the reasons.

    Args:
        inspection: the content of the files.
        recipe: a recipe, whose settings come first; None = no recipe.
        config: a file of settings, which replace those of the recipe; None = no file.
    """
    document = tomlkit.document()
    files = ", ".join(path for findings in inspection.tables for path in findings.paths)
    document.add(tomlkit.comment(f"Written by `lightsage inspect {files}`, from a look at some rows: read it once."))
    settings: dict[str, Any] = {}
    if recipe:
        beginning = read_recipe(recipe)
        settings = beginning.settings
        document.add(tomlkit.comment(f"It begins with the recipe {recipe}: {beginning.about}."))
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
    """Return comments for the keys that are to be written, by the path of the key."""
    table = ("input", findings.table or "events")
    comments = {
        (*(("input",) if key in findings.input_settings else table), key): text
        for key, text in findings.comments.items()
    }
    for name in findings.mapping:
        column = findings.read_as(name)
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
