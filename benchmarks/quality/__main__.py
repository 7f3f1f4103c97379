"""LightSAGE beside its peers on one shop: each tuned on the hold-out, then measured once on the test.

    python benchmarks/quality --name yoochoose --events TRAIN --items ITEMS [--ads ADS] --test TEST --work DIR
        [--protocol basket] [--tune] [--seeds 3] [--output TABLE.md] [--frontier PICTURE.png]

`--tune` chooses the peers' settings within 20 trials (the networks: 6) or 20 CPU-minutes each and writes
benchmarks/tuned/NAME.json, which the table then uses. The item graph is built into DIR once.
"""

import argparse
import json
import sys
from pathlib import Path

from baskets import basket_table
from frontier import frontier
from peers import PEERS
from shop import Shop
from table import measured, render
from tune import tune

HERE = Path(__file__).resolve().parent.parent


def main() -> int:
    """Build the graph if there is none, tune if asked, measure, print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--name", required=True)
    options.add_argument("--events", nargs="+", help="training events; needed when DIR has no graph yet")
    options.add_argument("--items")
    options.add_argument("--ads")
    options.add_argument("--test", required=True, type=Path)
    options.add_argument("--work", required=True, type=Path)
    options.add_argument("--protocol", choices=("item", "basket"), default="item")
    options.add_argument("--tune", action="store_true", help="choose the peers' settings, and measure nothing")
    options.add_argument("--models", nargs="+", default=[*(peer.name for peer in PEERS), "LightSAGE"])
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--output", type=Path)
    options.add_argument("--frontier", type=Path, help="draw overall against tail hits into this .png")
    chosen = options.parse_args()
    root = chosen.work / "graph"
    if not (root / "summary.json").exists():
        build(chosen.events, chosen.items, chosen.ads, root)
    shop = Shop(chosen.name, root, chosen.test, chosen.protocol)
    tuned = HERE / "tuned" / f"{chosen.name}.json"
    if chosen.tune:
        tune(shop, tuned, chosen.models)
        return 0
    settings = json.loads(tuned.read_text(encoding="utf-8")) if tuned.exists() else {}
    if chosen.protocol == "basket":
        page = basket_table(shop, settings, chosen.models, range(chosen.seeds))
    else:
        found = measured(shop, settings, chosen.models, range(chosen.seeds))
        page = render(shop, found)
        if chosen.frontier:
            page += frontier(shop, found, chosen.frontier)
    if chosen.output:
        chosen.output.parent.mkdir(parents=True, exist_ok=True)
        chosen.output.write_text(page, encoding="utf-8")
    print(page)
    return 0


def build(events: list[str], items: str | None, ads: str | None, root: Path) -> None:
    """The graph, as `lightsage run` builds it."""
    from graph_build.build import GraphInputs, build_graphs
    from graph_build.config import GraphConfig
    from graph_build.spark.session import session_for_one_build

    with session_for_one_build() as spark:
        build_graphs(spark, GraphInputs(events, items, ads), str(root), GraphConfig())


if __name__ == "__main__":
    sys.exit(main())
