"""LightSAGE compared with its peers on one shop: each is tuned on the hold-out, then measured once on the test.

    python benchmarks/quality --name yoochoose --events TRAIN --items ITEMS [--ads ADS] --test TEST --work DIR
        [--protocol basket] [--tune] [--seeds 3] [--output TABLE.md] [--frontier PICTURE.png]

`--tune` chooses the settings of the peers, each within 20 trials (networks: 6) or 20 CPU-minutes, and writes them to
benchmarks/tuned/NAME.json, from which the table takes them. The item graph is built once, into DIR.
"""

import argparse
import json
import sys
from pathlib import Path

from baskets import basket_table
from frontier import frontier
from peers import PEERS
from shop import Shop
from table import measure_models, render
from tune import tune

HERE = Path(__file__).resolve().parent.parent


def main() -> int:
    """Build the graph if there is none, then either tune the peers, or measure and print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", required=True)
    parser.add_argument("--events", nargs="+", help="training events; needed while DIR has no graph")
    parser.add_argument("--items")
    parser.add_argument("--ads")
    parser.add_argument("--test", required=True, type=Path)
    parser.add_argument("--work", required=True, type=Path)
    parser.add_argument("--protocol", choices=("item", "basket"), default="item")
    parser.add_argument("--tune", action="store_true", help="choose the settings of the peers, and measure nothing")
    parser.add_argument("--models", nargs="+", default=[*(peer.name for peer in PEERS), "LightSAGE"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--frontier", type=Path, help="draw overall hits against tail hits into this .png")
    options = parser.parse_args()
    root = options.work / "graph"
    if not (root / "summary.json").exists():
        build(options.events, options.items, options.ads, root)
    shop = Shop(options.name, root, options.test, options.protocol)
    tuned = HERE / "tuned" / f"{options.name}.json"
    if options.tune:
        tune(shop, tuned, options.models)
        return 0
    settings = json.loads(tuned.read_text(encoding="utf-8")) if tuned.exists() else {}
    if options.protocol == "basket":
        page = basket_table(shop, settings, options.models, range(options.seeds))
    else:
        measurements = measure_models(shop, settings, options.models, range(options.seeds))
        page = render(shop, measurements)
        if options.frontier:
            page += frontier(shop, measurements, options.frontier)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(page, encoding="utf-8")
    print(page)
    return 0


def build(events: list[str], items: str | None, ads: str | None, root: Path) -> None:
    """Build the graph as `lightsage run` does."""
    from graph_build.build import GraphInputs, build_graphs
    from graph_build.config import GraphConfig
    from graph_build.spark.session import session_for_one_build

    with session_for_one_build() as spark:
        build_graphs(spark, GraphInputs(events, items, ads), str(root), GraphConfig())


if __name__ == "__main__":
    sys.exit(main())
