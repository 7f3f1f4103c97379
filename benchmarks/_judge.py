"""Models that are compared on one hold-out: by the same cells, with the same weights of the score."""

from collections.abc import Callable

import numpy as np

from jobs.pipeline.holdout import HoldoutEvaluation
from model.embeddings import Embeddings

CELLS = (("all", "HR", 20), ("all", "HR", 100), ("tail", "HR", 100), ("cold", "HR", 100))
TITLES = "HR@20 | HR@100 | tail HR@100 | cold HR@100"
Judge = Callable[[Embeddings], list[float]]


def judge(holdout: HoldoutEvaluation, first: Embeddings) -> Judge:
    """The CELLS of a model (recall for HR of baskets), with the weights that the hold-out chooses for the first one."""
    weights = holdout.choose_weights(first)

    def cells(embeddings: Embeddings) -> list[float]:
        rows = holdout.rows("", embeddings, weights)
        values = {(row["slice"], row["metric"], row["k"]): row["value"] for row in rows}
        found = [values.get(cell, values.get((cell[0], "recall", cell[2]))) for cell in CELLS]
        return [float("nan") if value is None else value for value in found]

    return cells


def shown(found: list[list[float]]) -> str:
    """The cells of a row: their means."""
    return " | ".join("–" if np.isnan(cell) else f"{cell:.3f}" for cell in np.mean(found, axis=0))
