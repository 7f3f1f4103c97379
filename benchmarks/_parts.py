"""Benchmarks of several parts: one is chosen, and its lines are printed and kept as they come."""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

Line = Callable[[str], None]
Part = Callable[[argparse.Namespace, Line], None]


def parser(documentation: str | None, parts: Mapping[str, Part]) -> argparse.ArgumentParser:
    """With the options that all of them have."""
    options = argparse.ArgumentParser(description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("part", choices=sorted(parts))
    options.add_argument("--train", type=Path)
    options.add_argument("--test", type=Path)
    options.add_argument("--seeds", type=int, default=1)
    options.add_argument("--threads", type=int, default=0, help="of torch (default: as many as cores)")
    options.add_argument("--output", type=Path)
    return options


def run(chosen: argparse.Namespace, parts: Mapping[str, Part]) -> int:
    """Measure and print."""
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        print(line, file=sys.stderr, flush=True)
        if chosen.output:
            chosen.output.write_text("\n".join([*lines, ""]), encoding="utf-8")

    parts[chosen.part](chosen, say)
    print("\n".join(lines))
    return 0
