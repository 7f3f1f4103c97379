"""`lightsage inspect`: the content of files, whether a build can read them, and the command to run next."""

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.cli.inspection_settings import as_toml
from jobs.config import load_config
from jobs.recipe import read_recipe, recipe_names

if TYPE_CHECKING:
    from graph_build.inspection.files import FileGroup
    from graph_build.inspection.findings import TableFindings
    from graph_build.inspection.tables import Inspection


def inspect(paths: Sequence[str], config: Path | None, recipe: str | None) -> tuple["Inspection", str | None]:
    """Return the content of files and folders, and the recipe by which they were read.

    Without a recipe and settings, a recipe is used if it describes the layout of the files.

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
    """Return a recipe that fits some files, else None; a recipe that fits only a table of items is the last choice."""
    recipes = [read_recipe(name) for name in recipe_names()]
    fitting = [
        (group.table == "items", recipe.name)
        for group in groups
        for recipe in recipes
        if recipe.fits(group.files[0], group.layout.format, group.columns)
    ]
    return min(fitting)[1] if fitting else None


def has_faults(inspection: "Inspection") -> bool:
    """Return whether there are faults at which a build would stop even with the settings that `inspect` can write."""
    left = [fault for findings in inspection.tables for fault in findings.faults if fault.stops and not fault.line]
    return bool(left or inspection.faults)


def next_command(inspection: "Inspection", recipe: str | None, config: Path | None) -> str | None:
    """Return the command that builds a version of the tables; None if there are no events.

    Args:
        inspection: the content of the files.
        recipe: the recipe by which the files are read.
        config: the file of settings that exists or is to be written; None = there is no such file.
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
    """Return whether the files need further settings than those that are configured."""
    return any(findings.settings or findings.input_settings for findings in inspection.tables if findings.table)


def as_json(inspection: "Inspection", recipe: str | None) -> dict[str, Any]:
    """Return the content of the files as JSON, for programs.

    Args:
        inspection: the content of the files.
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
