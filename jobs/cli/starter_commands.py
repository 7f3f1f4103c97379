"""The commands for a new user: `inspect`, `demo`, and `config`, which prints all settings."""

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.cli.command import Command, ExitCode, add_recipe, write_line
from jobs.config import load_config
from jobs.errors import InputNotFoundError, OutputError

if TYPE_CHECKING:
    from graph_build.inspection.tables import Inspection


def _config_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="print the settings of this file; without it, the default settings"
    )


def _config(options: argparse.Namespace) -> int:
    from jobs.settings import as_toml

    sys.stdout.write(as_toml(load_config(options.config)))
    return ExitCode.OK


def _inspect_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="*", metavar="PATH", help="files and folders of events, items and ads")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the settings that the files need")
    parser.add_argument("--recipes", action="store_true", help="list the recipes")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings that are known already")
    add_recipe(parser)


def _inspect(options: argparse.Namespace) -> int:
    from jobs.cli.inspection import as_json, has_faults, inspect
    from jobs.cli.inspection_text import describe, recipe_list

    if options.recipes:
        for line in recipe_list():
            write_line(line)
        return ExitCode.OK
    if not options.paths:
        raise InputNotFoundError("got no path; give files or folders: lightsage inspect events.csv items.csv")
    if options.write is not None and options.write.exists():
        raise OutputError(f"{options.write} exists; delete it, or give another name with --write")
    inspection, recipe = inspect(options.paths, options.config, options.recipe)
    if options.json:
        write_line(json.dumps(as_json(inspection, recipe), default=str, ensure_ascii=False, indent=2))
    else:
        for line in describe(inspection, recipe):
            write_line(line)
    _say_what_is_next(options, inspection, recipe)
    return ExitCode.WRONG_INPUT if has_faults(inspection) else ExitCode.OK


def _say_what_is_next(options: argparse.Namespace, inspection: "Inspection", recipe: str | None) -> None:
    from jobs.cli.inspection import needs_settings, next_command
    from jobs.cli.inspection_settings import as_toml

    config, must_write = options.config, needs_settings(inspection)
    if options.write is not None:
        options.write.write_text(as_toml(inspection, recipe, options.config), encoding="utf-8")
        config = options.write
    elif must_write:
        config = Path("lightsage.toml")
    if options.json or (line := next_command(inspection, recipe, config)) is None:
        return
    if options.write is None and must_write:
        write_line(f"next     lightsage inspect {shlex.join(options.paths)} --write {config}")
        write_line(f"         {line}")
    else:
        write_line(f"next     {line}")


def _demo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--directory", type=Path, default=Path("demo"), help="folder for its data and workspace (default demo)"
    )
    parser.add_argument("--small", action="store_true", help="use a tiny shop; takes less than a minute")


def _demo(options: argparse.Namespace) -> int:
    from jobs.cli.demo import demo

    demo(options.directory, small=options.small)
    return ExitCode.OK


COMMANDS = (
    Command(
        "inspect",
        "say what log files hold, what is wrong with them, and which settings they need",
        _inspect_arguments,
        _inspect,
    ),
    Command("config", "print all settings as TOML, each with its meaning", _config_arguments, _config),
    Command(
        "demo",
        "generate a shop, build a version of it, measure the version and answer a query",
        _demo_arguments,
        _demo,
        publishes=True,
    ),
)
