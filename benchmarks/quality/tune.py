"""Chooses the settings of each peer on the hold-out within a budget, and writes all trials beside the choice."""

import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from peers import PEERS, Params, Peer
from shop import Shop

from retrieval.evaluation.protocols import choice_score

CPU_SECONDS = 20 * 60


def trials(peer: Peer, seed: int = 0) -> list[Params]:
    """The peer's first settings, then others of its grid in random order."""
    grid = [dict(zip(peer.space, values, strict=True)) for values in itertools.product(*peer.space.values())]
    order = np.random.default_rng(seed).permutation(len(grid))
    others = [grid[number] for number in order if grid[number] != peer.first]
    return [peer.first, *others][: peer.trials]


def tune(shop: Shop, path: Path, names: list[str]) -> dict[str, Any]:
    """Tune the peers; {params, score, tried} is written after each peer, so that an interrupted run can continue."""
    tuned: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for peer in PEERS:
        if peer.name not in names or peer.name in tuned:
            continue
        tried, began = [], time.process_time()
        for params in trials(peer):
            start = time.process_time()
            value = choice_score(peer.fit(shop.fit, params, 0), shop.holdout, shop.protocol).hits
            tried.append({"params": params, "score": round(value, 5), "cpu": round(time.process_time() - start, 1)})
            print(f"{shop.name} {peer.name} {len(tried)} {params} {value:.4f}", file=sys.stderr, flush=True)
            if time.process_time() - began > CPU_SECONDS:
                break
        best = max(tried, key=lambda trial: trial["score"])
        tuned[peer.name] = {"params": best["params"], "score": best["score"], "tried": tried}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(tuned, indent=1) + "\n", encoding="utf-8")
    return tuned
