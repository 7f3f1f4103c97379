"""The table of a shop that logs baskets: recall of each basket's other items, on all items and on ads in flight."""

import sys
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from shop import KIND, Shop
from table import fits, spread

from graph_build.config import InputConfig
from jobs.pipeline.evaluation_events import read_events, sessions_of
from retrieval.catalogue.ads import Ads
from retrieval.evaluation.pairs import pairs_of
from retrieval.evaluation.protocols import evaluate

CELLS = (("all", 20), ("all", 100), ("tail", 100), ("cold", 100), ("ads", 20), ("ads", 100))


def basket_table(shop: Shop, tuned: dict[str, Any], models: list[str], seeds: Iterable[int]) -> str:
    """Fit every model on all events, measure it on the test once per seed, and return the page."""
    sessions = sessions_of(read_events([str(shop.test_events)], InputConfig()), KIND["basket"])
    row_of = {item: row for row, item in enumerate(shop.full.item_ids)}
    ads = Ads.from_table(pq.read_table(shop.root / "tables" / "ads"), row_of)
    of_ads = pairs_of("basket", sessions, shop.full.item_ids, shop.full.events, ads=ads)
    lines = [
        f"# Quality on {shop.name}",
        "",
        f"The figures are the recall of the other items of {len(np.unique(shop.test.group)):,} baskets. A cell has the "
        "mean over seeds ± their standard deviation and, in brackets, the 95% interval of the first seed, from a "
        "bootstrap over baskets. In the *ads* columns, only the items that have an eligible ad at the time are "
        "candidates and targets.",
        "",
        "| model | recall@20 | recall@100 | tail @100 | cold @100 | ads @20 | ads @100 | training CPU s |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name in models:
        runs: list[dict[tuple[str, int], dict[str, Any]]] = []
        cpu = []
        for seed, ranker, spent, _ in fits(shop, tuned, name, seeds):
            cpu.append(spent)
            rows = evaluate(name, ranker, shop.test, protocol="basket")
            rows += evaluate(name, ranker, of_ads, protocol="basket", ads=ads)
            runs.append({(row["slice"], row["k"]): row for row in rows if row["metric"] == "recall"})
            print(f"{shop.name} {name} seed {seed}: {runs[-1]['all', 20]['value']:.4f}", file=sys.stderr, flush=True)
        cells = [f"{spread([run[cell]['value'] or 0.0 for run in runs])} {_interval(runs[0][cell])}" for cell in CELLS]
        lines.append(f"| {name} | {' | '.join(cells)} | {np.mean(cpu):.0f} |")
    return "\n".join(lines) + "\n"


def _interval(row: dict[str, Any]) -> str:
    return f"({row['low']:.3f}–{row['high']:.3f})" if row["low"] is not None else ""
