"""Hits on all pairs against hits on tail targets: LightSAGE's dial as a line, every peer as a point."""

from pathlib import Path

import numpy as np
from shop import Shop
from table import COSINE_ONLY, OURS, Measurement, slices_of

from retrieval.evaluation import metrics


def frontier(shop: Shop, measurements: list[Measurement], path: Path) -> str:
    """Draw the picture, and return a table of LightSAGE's tail hits at the overall hits of each peer."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    tail = slices_of(shop.test)["tail"]

    def point(ranks: np.ndarray) -> tuple[float, float]:
        hits = metrics.hits(ranks, 100)
        return float(hits.mean()), float(hits[tail].mean())

    ours = next(one for one in measurements if one.model == OURS)
    line = np.array(sorted(point(ranks) for ranks in ours.dial.values()))
    points = {one.model: tuple(np.mean([point(ranks) for ranks in one.ranks], axis=0)) for one in measurements}
    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    axes.plot(line[:, 0], line[:, 1], "-o", ms=3, color="tab:red", label=f"{OURS}, its popularity weight turned")
    axes.margins(x=0.12)
    for model, (x, y) in points.items():
        if model == COSINE_ONLY:
            continue  # it would hide LightSAGE's own point
        axes.scatter(x, y, color="tab:red" if model == OURS else "tab:blue", s=60 if model == OURS else 25, zorder=3)
        axes.annotate(model, (x, y), textcoords="offset points", xytext=(5, 4), fontsize=8)
    axes.set(xlabel="HR@100, all pairs", ylabel="HR@100, tail targets", title=shop.name)
    axes.legend(loc="lower left", fontsize=8)
    axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    lines = [
        "",
        "Each row has a peer's HR@100 and tail HR@100. Beside them is the best tail HR@100 that LightSAGE reaches at a "
        "setting of its dial where its own overall HR@100 is at least the peer's (interpolated between the settings "
        "that were measured):",
        "",
    ]
    lines += ["| peer | HR@100 | tail HR@100 | LightSAGE's tail HR@100 | ratio |", "|---|---:|---:|---:|---:|"]
    for model, (x, y) in points.items():
        if model != OURS:
            # The best tail hits at this overall HR@100 or a higher one count; beyond the last setting, there are none.
            reached = float(np.interp(x, line[:, 0], np.maximum.accumulate(line[::-1, 1])[::-1]))
            ratio = f"{reached / y:.2f}" if y else "–"
            lines.append(f"| {model} | {x:.3f} | {y:.3f} | {reached if x <= line[-1, 0] else 0:.3f} | {ratio} |")
    return "\n".join(lines) + "\n"
