"""The cost of training on a shop: the model that is measured on the hold-out, and the final model on all events.

    python benchmarks/fits.py NAME=EVENTS[,ITEMS] … --work DIR [--seed 0] [--output docs/benchmarks/fits.md]

The *fit* is trained without the hold-out. It is then measured on the hold-out, and settings are chosen by the results.
The *refit* is trained on all events. All settings but the seed are the defaults; torch uses all cores. The graph is
built first, which is not counted, and stays in DIR.
"""

import sys
from pathlib import Path

from _cost import Meter, loop_seconds
from _page import argument_parser, print_progress, publish

from jobs.config import Config
from jobs.pipeline.graph_stage import build_graph
from jobs.pipeline.inputs import RunInputs
from jobs.pipeline.training import choose, fit_everything


def main() -> int:
    """Build the graphs, train, and print the page."""
    parser = argument_parser(__doc__)
    parser.add_argument("shops", nargs="+", metavar="NAME=EVENTS[,ITEMS]")
    parser.add_argument("--work", type=Path, required=True, help="folder for the graphs")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    config = Config.model_validate({"model": {"train": {"seed": options.seed}}})
    lines = [
        "# What training takes",
        "",
        *(__doc__ or "").strip().splitlines()[2:],
        "",
        "| shop | fit: wall s | fit: CPU s | refit: wall s | refit: CPU s | both: wall s | peak GiB | a fixed loop s |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for shop in options.shops:
        name, _, tables = shop.partition("=")
        events, _, items = tables.partition(",")
        graph = options.work / f"graph-{name}"
        if not (graph / "summary.json").exists():
            print_progress(f"{name}: graph …")
            build_graph(RunInputs((events,), items or None), graph, config, None, lambda *_: None)
        print_progress(f"{name}: training …")
        before = loop_seconds()
        with Meter() as first:
            choice = choose(graph, config, lambda *_: None)
        with Meter() as second:
            fit_everything(graph, config, choice.record.share, lambda *_: None)
        choosing, fitting = first.cost, second.cost
        lines.append(
            f"| {name} | {choosing.wall:.0f} | {choosing.cpu:.0f} | {fitting.wall:.0f} | {fitting.cpu:.0f} | "
            f"{choosing.wall + fitting.wall:.0f} | {max(choosing.python, fitting.python):.1f} | "
            f"{before:.1f}, then {loop_seconds():.1f} |"
        )
    lines += [
        "",
        "The fixed loop is 20 million additions in Python. Its times before and after the training show how fast the "
        "host was.",
    ]
    text = "\n".join(lines) + "\n"
    return publish(text, options.output)


if __name__ == "__main__":
    sys.exit(main())
