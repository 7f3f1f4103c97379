"""`lightsage semantic-ids`: a table of every item's semantic ID, learned by a model whose item side they are."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jobs.config import Config
from jobs.progress import ProgressCallback

if TYPE_CHECKING:
    from model.config import ModelConfig
    from model.graph import ItemGraph

log = logging.getLogger(__name__)

PREFIXES = 3
"""How many prefixes stand in the table as columns of their own."""


def semantic_ids(
    graph: Path, config: Config, levels: int, size: int, report: ProgressCallback
) -> tuple[pa.Table, dict[str, Any]]:
    """(the table, its figures) for all items of a graph folder.

    Columns: item_id; code: list of uint8, one number a level; prefix_1 … prefix_3: the first numbers joined by "-", to
    be joined to the items table and named in `[model.features] columns`.
    """
    from model.graph import load_graph
    from model.semantic_ids import code_usage

    full = load_graph(graph, "full", graph / "tables" / "items")
    codes = learned_codes(full, config.model, levels, size, report)
    columns = {"item_id": full.item_ids, "code": pa.array(list(codes), pa.list_(pa.uint8()))}
    return pa.table(columns | prefix_columns(codes)), code_usage(codes, size)


def learned_codes(
    graph: "ItemGraph", config: "ModelConfig", levels: int, size: int, report: ProgressCallback | None = None
) -> NDArray[np.uint8]:
    """(N, L) codes of all items after a training with such a bottleneck."""
    from model.embed import semantic_ids
    from model.trainer import train

    quantised = config.semantic_ids.model_copy(update={"levels": levels, "size": size})
    trained = train(graph, config.model_copy(update={"semantic_ids": quantised}), progress=report)
    return semantic_ids(trained.network, trained.encoder).astype(np.uint8)


def prefix_columns(codes: NDArray[np.uint8]) -> dict[str, pa.Array]:
    """prefix_1, prefix_2, … as strings."""
    numbers = [pa.array([str(code) for code in column.tolist()]) for column in codes.T[:PREFIXES]]
    columns = {"prefix_1": numbers[0]}
    for level, number in enumerate(numbers[1:], 2):
        before = columns[f"prefix_{level - 1}"].to_pylist()
        columns[f"prefix_{level}"] = pa.array([f"{a}-{b}" for a, b in zip(before, number.to_pylist(), strict=True)])
    return columns


def write(path: Path, table: pa.Table) -> None:
    """As Parquet."""
    pq.write_table(table, path)
