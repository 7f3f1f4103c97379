"""What training a shop takes: the fit that the hold-out judges, with its judging, and the fit of everything.

    python benchmarks/fits.py NAME=EVENTS[,ITEMS] … --work DIR [--seed 0] [--output docs/benchmarks/fits.md]

The graph is built first and not counted (it stays in DIR). Defaults; torch takes the cores there are.
"""

import argparse
import sys
from pathlib import Path

from _measure import Meter, loop_seconds

from jobs.config import Config
from jobs.pipeline.graph_stage import build_graph
from jobs.pipeline.inputs import RunInputs
from jobs.pipeline.training import choose, fit_everything


def main() -> int:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("shops", nargs="+", metavar="NAME=EVENTS[,ITEMS]")
    options.add_argument("--work", type=Path, required=True)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--output", type=Path)
    chosen = options.parse_args()
    config = Config.model_validate({"model": {"train": {"seed": chosen.seed}}})
    lines = [
        "# What training takes",
        "",
        *(__doc__ or "").strip().splitlines()[2:],
        "",
        "| shop | choose: wall s | CPU s | fit: wall s | CPU s | together: wall s | peak GiB | a fixed loop s |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for shop in chosen.shops:
        name, _, tables = shop.partition("=")
        events, _, items = tables.partition(",")
        graph = chosen.work / f"graph-{name}"
        if not (graph / "summary.json").exists():
            print(f"{name}: graph …", file=sys.stderr, flush=True)
            build_graph(RunInputs((events,), items or None), graph, config, None, lambda *_: None)
        print(f"{name}: training …", file=sys.stderr, flush=True)
        before = loop_seconds()
        with Meter() as first:
            picked = choose(graph, config, lambda *_: None)
        with Meter() as second:
            fit_everything(graph, config, picked.record.share, lambda *_: None)
        choosing, fitting = first.cost, second.cost
        lines.append(
            f"| {name} | {choosing.wall:.0f} | {choosing.cpu:.0f} | {fitting.wall:.0f} | {fitting.cpu:.0f} | "
            f"{choosing.wall + fitting.wall:.0f} | {max(choosing.python, fitting.python):.1f} | "
            f"{before:.1f}, then {loop_seconds():.1f} |"
        )
    lines += ["", "The loop, 20 million additions in Python before and after, says how fast the host was."]
    text = "\n".join(lines) + "\n"
    print(text)
    if chosen.output:
        chosen.output.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
