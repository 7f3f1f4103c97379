"""Benchmarks with several parts: the command line names a part, whose lines are shown and written as they come."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from _page import add_threads, argument_parser, print_progress, write_page

AddLine = Callable[[str], None]
Part = Callable[[argparse.Namespace, AddLine], None]


def parts_parser(documentation: str | None, parts: Mapping[str, Part]) -> argparse.ArgumentParser:
    """Return a parser with the options that all of these benchmarks have.

    Args:
        documentation: the docstring of the benchmark.
        parts: the parts by name.
    """
    parser = argument_parser(documentation)
    parser.add_argument("part", choices=sorted(parts))
    parser.add_argument("--train", type=Path, help="training events")
    parser.add_argument("--test", type=Path, help="test events")
    parser.add_argument("--seeds", type=int, default=1, help="trainings per model (default 1)")
    add_threads(parser)
    return parser


def run_part(options: argparse.Namespace, parts: Mapping[str, Part]) -> int:
    """Run a part and print its lines; returns the exit code 0.

    Args:
        options: the parsed command line.
        parts: the parts by name.
    """
    lines: list[str] = []

    def add_line(line: str) -> None:
        lines.append(line)
        print_progress(line)
        write_page("\n".join([*lines, ""]), options.output)

    parts[options.part](options, add_line)
    print("\n".join(lines))
    return 0
