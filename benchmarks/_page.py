"""What every benchmark does: parse its options, report progress, and publish its page."""

import argparse
import sys
from pathlib import Path


def argument_parser(documentation: str | None) -> argparse.ArgumentParser:
    """Return a parser that shows the benchmark's documentation and has the option --output.

    Args:
        documentation: the docstring of the benchmark.
    """
    parser = argparse.ArgumentParser(description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="also write the page to this file")
    return parser


def add_graphs(parser: argparse.ArgumentParser, seeds: int) -> None:
    """Add the options of benchmarks that train models on several graphs.

    Args:
        parser: the parser of the benchmark.
        seeds: the default number of seeds.
    """
    parser.add_argument("--graph", action="append", required=True, metavar="NAME=GRAPH", help="can be repeated")
    parser.add_argument("--seeds", type=int, default=seeds, help="trainings per model (default %(default)s)")
    add_threads(parser)


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add the option --threads."""
    parser.add_argument("--threads", type=int, default=0, help="threads of torch (default: the number of cores)")


def print_progress(text: str) -> None:
    """Write a line to standard error."""
    print(text, file=sys.stderr, flush=True)


def write_page(page: str, output: Path | None) -> None:
    """Write a page, finished or not, if there is an output file.

    Args:
        page: the text, in Markdown.
        output: the file to write.
    """
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(page, encoding="utf-8")


def publish(page: str, output: Path | None) -> int:
    """Print the finished page, and write it if there is an output file; returns the exit code 0.

    Args:
        page: the text, in Markdown.
        output: the file to write.
    """
    write_page(page, output)
    print(page)
    return 0
