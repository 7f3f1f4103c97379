"""The parts that commands share: the `Command` type, exit codes, types of arguments, flags, reports, and printing."""

import argparse
import datetime as dt
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, NoReturn

from jobs.config import Config, load_config
from jobs.workspace.atomic_files import check_output
from jobs.workspace.version_folder import Version
from jobs.workspace.workspace import Workspace


class ExitCode(IntEnum):
    """The exit codes of `lightsage`. Scripts depend on them."""

    OK = 0
    FAILED = 1  # something failed, through no fault of the user
    WRONG_INPUT = 2  # the input or the command line is wrong
    BUSY = 3  # another process is writing to the workspace
    REFUSED = 4  # a night, or a version to publish, did not pass its gates
    INTERRUPTED = 130


@dataclass(frozen=True)
class Command:
    """One command: its name, its line in `lightsage --help`, its flags, and the function that runs it.

    `publishes` is set for commands that build or publish a version. If one of them is interrupted or fails
    unexpectedly, the log says that the version served before is still served.
    """

    name: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    publishes: bool = False


class Parser(argparse.ArgumentParser):
    """A parser of command lines; if a line is wrong, it prints the usage and ends the process with exit code 2."""

    def error(self, message: str) -> NoReturn:
        """See `argparse.ArgumentParser`."""
        self.print_usage(sys.stderr)
        self.exit(ExitCode.WRONG_INPUT, f"error: {message}\n")


def add_workspace(parser: argparse.ArgumentParser) -> None:
    """Add the flags --workspace and --config."""
    parser.add_argument(
        "--workspace", required=True, metavar="DIR", help="folder or URI in which versions are published"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file of settings; every key has a default")


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Add the flag --recipe."""
    parser.add_argument(
        "--recipe",
        metavar="NAME",
        help="settings for a well-known layout of logs (`lightsage inspect --recipes`); --config goes on top of them",
    )


def add_input_check(parser: argparse.ArgumentParser) -> None:
    """Add the flags --recipe and --dry-run."""
    add_recipe(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="check the input and the settings, report all faults, and stop there"
    )


def add_tables(parser: argparse.ArgumentParser) -> None:
    """Add the flags --items and --ads."""
    parser.add_argument("--items", metavar="PATH", help="the item catalogue")
    parser.add_argument("--ads", metavar="PATH", help="the ads; without this table, every item counts as advertised")


def add_events(parser: argparse.ArgumentParser, help_: str, *, metavar: str = "PATH", required: bool = False) -> None:
    """Add the flag --events, which takes several paths and may be repeated; without it, the option is None.

    Args:
        parser: the parser of the command.
        help_: the help of the flag.
        metavar: the name of a path in the usage.
        required: whether the command needs the flag.
    """
    parser.add_argument("--events", nargs="+", action="extend", required=required, metavar=metavar, help=help_)


def add_measurement(parser: argparse.ArgumentParser, after: str, protocol: str, json: str, html: str) -> None:
    """Add the flags of a measurement: its events, its protocol, its options, and the files of its result.

    Args:
        parser: the parser of the command.
        after: the time after which the events must be, in words.
        protocol: the help of --protocol.
        json: the help of --output.
        html: the help of --html.
    """
    add_events(parser, f"events after {after}", metavar="TEST.parquet", required=True)
    parser.add_argument("--protocol", choices=("item", "session", "basket"), default="item", help=protocol)
    parser.add_argument("--include-current", action="store_true", help="allow the current item as a target")
    parser.add_argument(
        "--allow-overlap", action="store_true", help=f"accept events that are not after {after}; this is recorded"
    )
    parser.add_argument("--output", type=Path, metavar="REPORT.json", help=json)
    parser.add_argument("--html", type=Path, metavar="PAGE.html", help=html)


def check_reports(options: argparse.Namespace) -> None:
    """Check, before any work is done, whether the files of --output and --html can be written.

    Raises:
        OutputError: one of them cannot be written.
    """
    for flag in ("output", "html"):
        if path := getattr(options, flag):
            check_output(path, flag=f"--{flag}")


def write_reports(
    options: argparse.Namespace, content: dict[str, Any], render: Callable[[Mapping[str, Any]], str]
) -> None:
    """Write a measurement to the files of --output and --html, if they are given.

    Args:
        options: the options of the command.
        content: the measurement.
        render: makes a page of the measurement.
    """
    from jobs.pipeline.evaluate import write_report

    if options.output:
        write_report(options.output, content)
    if options.html:
        options.html.parent.mkdir(parents=True, exist_ok=True)
        options.html.write_text(render(content), encoding="utf-8")


def day(text: str) -> dt.date:
    """Parse a day in any of the forms that logs may use; see `parse_date`."""
    from graph_build.day_zone import parse_date

    try:
        return parse_date(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def port(text: str) -> int:
    """Parse a TCP port."""
    if text.isdecimal() and int(text) <= 65_535:
        return int(text)
    raise argparse.ArgumentTypeError(f"got {text!r}, expected a port from 0 to 65535 (0 = any free port)")


def whole_number(lowest: int, highest: int) -> Callable[[str], int]:
    """Return a parser of whole numbers within a range.

    Args:
        lowest: the smallest number that is accepted.
        highest: the largest number that is accepted.
    """

    def parse(text: str) -> int:
        if text.isdecimal() and lowest <= int(text) <= highest:
            return int(text)
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number from {lowest} to {highest}")

    return parse


def open_version(options: argparse.Namespace, *parts: str) -> tuple[Version, Config]:
    """Compare the named parts of a version with their checksums; return the version and the configuration.

    Args:
        options: the command's options, with --workspace and --config. The version is that of --version, if the command
            has this flag and it is given, else the published one.
        *parts: the folders of the version that the command reads, such as "index".
    """
    name = getattr(options, "version", None)
    config = load_config(options.config, getattr(options, "recipe", None))
    return Workspace(options.workspace).open(name, verify=True, parts=parts), config


def dry_run(tables: dict[str, list[str]], config: Config) -> ExitCode:
    """Check the tables of a command, say that they can be read, and return the exit code.

    Args:
        tables: `events`, `items`, `ads` → files and folders.
        config: the full configuration.

    Raises:
        TableError: the command would stop; the message has a line for each fault.
    """
    from jobs.pipeline.input_check import check_inputs

    warnings = check_inputs(tables, config)
    with_warnings = f", with {warnings} warning{'s' * (warnings > 1)}" if warnings else ""
    write_line(f"the input can be read{with_warnings}; nothing was built (--dry-run)")
    return ExitCode.OK


def write_line(line: str) -> None:
    """Write a line to standard output."""
    sys.stdout.write(line + "\n")
