"""`lightsage semantic-ids`: learns a short code for every item, and writes the codes as a table."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.config import Config
from jobs.progress import ProgressCallback

if TYPE_CHECKING:
    from model.config import ModelConfig
    from model.graph import ItemGraph

PREFIXES = 3
"""The number of columns for prefixes of codes."""


def semantic_ids(
    graph: Path, config: Config, levels: int, size: int, report: ProgressCallback
) -> tuple[pa.Table, dict[str, Any]]:
    """Learn the semantic IDs of all items of a graph.

    Args:
        graph: the graph folder of a version.
        config: the settings of the model.
        levels: the length of a code.
        size: the number of values of each number in a code.
        report: takes the progress.

    Returns:
        The table, and statistics of the codes. The table has the columns item_id, code (list of uint8, one number per
        level), and prefix_1 … prefix_3 (the first numbers joined by "-"). To use the prefixes as features, join them to
        the items table, and name them in `[model.features] columns`.
    """
    from model.graph import load_graph
    from model.semantic_ids import code_usage

    full = load_graph(graph, "full", graph / "tables" / "items")
    codes = learn_codes(full, config.model, levels, size, report)
    columns = {"item_id": full.item_ids, "code": pa.array(list(codes), pa.list_(pa.uint8()))}
    return pa.table(columns | prefix_columns(codes)), code_usage(codes, size)


def learn_codes(
    graph: "ItemGraph", config: "ModelConfig", levels: int, size: int, report: ProgressCallback | None = None
) -> NDArray[np.uint8]:
    """Train a model whose item vectors are quantised, and return the codes of all items: (N, levels).

    Args:
        graph: the graph to train on.
        config: the settings of the model.
        levels: the length of a code.
        size: the number of values of each number in a code.
        report: takes the progress.
    """
    from model.embed import semantic_ids
    from model.trainer import train

    quantised = config.semantic_ids.model_copy(update={"levels": levels, "size": size})
    trained = train(graph, config.model_copy(update={"semantic_ids": quantised}), progress=report)
    return semantic_ids(trained.network, trained.encoder).astype(np.uint8)


def prefix_columns(codes: NDArray[np.uint8]) -> dict[str, pa.Array]:
    """Return the columns prefix_1, prefix_2, … of the codes, as strings."""
    numbers = [pa.array([str(code) for code in column.tolist()]) for column in codes.T[:PREFIXES]]
    columns = {"prefix_1": numbers[0]}
    for level, number in enumerate(numbers[1:], 2):
        before = columns[f"prefix_{level - 1}"].to_pylist()
        columns[f"prefix_{level}"] = pa.array([f"{a}-{b}" for a, b in zip(before, number.to_pylist(), strict=True)])
    return columns
