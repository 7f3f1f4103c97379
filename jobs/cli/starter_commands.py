"""The commands for a new user: `demo`, and `config`, which prints all settings."""

import argparse
import sys
from pathlib import Path

from jobs.cli.command import Command, ExitCode
from jobs.config import load_config


def _config_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="print the settings of this file; without it, the default settings"
    )


def _config(options: argparse.Namespace) -> int:
    from jobs.settings import as_toml

    sys.stdout.write(as_toml(load_config(options.config)))
    return ExitCode.OK


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
    Command("config", "print all settings as TOML, each with its meaning", _config_arguments, _config),
    Command(
        "demo",
        "generate a shop, build a version of it, measure the version and answer a query",
        _demo_arguments,
        _demo,
        publishes=True,
    ),
)
