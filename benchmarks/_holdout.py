"""Hits on a hold-out, measured with the weights of the score that the hold-out chooses for one model."""

from collections.abc import Callable

import numpy as np

from jobs.pipeline.holdout import HoldoutEvaluation
from model.embeddings import Embeddings

CELLS = (("all", "HR", 20), ("all", "HR", 100), ("tail", "HR", 100), ("cold", "HR", 100))
TITLES = "HR@20 | HR@100 | tail HR@100 | cold HR@100"
Measure = Callable[[Embeddings], list[float]]


def measure_on(holdout: HoldoutEvaluation, first: Embeddings) -> Measure:
    """Return a function that gives the CELLS of a model; on baskets, recall takes the place of HR.

    Args:
        holdout: the sessions to measure on.
        first: the model for which the hold-out chooses the weights; other models are ranked with the same weights.
    """
    weights = holdout.choose_weights(first)

    def measure(embeddings: Embeddings) -> list[float]:
        rows = holdout.rows("", embeddings, weights)
        values = {(row["slice"], row["metric"], row["k"]): row["value"] for row in rows}
        cells = [values.get(cell, values.get((cell[0], "recall", cell[2]))) for cell in CELLS]
        return [float("nan") if value is None else value for value in cells]

    return measure


def mean_cells(runs: list[list[float]]) -> str:
    """Return the means of several runs, (runs, CELLS), as the cells of a row."""
    return " | ".join("–" if np.isnan(cell) else f"{cell:.3f}" for cell in np.mean(runs, axis=0))
