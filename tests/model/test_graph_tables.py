"""Reading the item graph's tables: rows follow item_id, and errors name whatever is missing or unknown."""

import datetime as dt
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.errors import ModelInputError
from model.graph import load_graph


def write(folder: Path, *parts: dict[str, Any]) -> None:
    """Write one parquet file for each part, with a dictionary of its own, as Spark does."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number, part in enumerate(parts):
        pq.write_table(pa.table(part), folder / f"part-{number}.parquet")


NODES = {"item_id": ["c", "a", "b"], "events": [0, 7, 2], "is_tail": [True, False, True], "popularity": [0.0, 7.0, 2.0]}
EDGES = {"src": ["b"], "dst": ["a"], "edge_type": ["co_search"], "weight": [0.5]}
TIME = pa.array([dt.datetime(2026, 3, 2, tzinfo=dt.UTC)])
MOVES = {
    "time": TIME,
    "src": ["a"],
    "dst": ["b"],
    "steps": pa.array([1], pa.int32()),
    "kind": ["strong_click"],
    "held": [False],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write nodes out of order, and edges and transitions in two files each that share no dictionary."""
    write(tmp_path / "full" / "nodes", NODES)
    write(
        tmp_path / "full" / "edges", EDGES, {"src": ["a"], "dst": ["b"], "edge_type": ["strong_click"], "weight": [2.0]}
    )
    write(tmp_path / "transitions", MOVES, {**MOVES, "src": ["b"], "dst": ["a"], "steps": pa.array([3], pa.int32())})
    write(tmp_path / "items", {"item_id": ["b", "a"], "brand": ["x", None]})
    return tmp_path


def table_folder(folder: Path, table: str) -> Path:
    return folder / table if table == "transitions" else folder / "full" / table


def test_rows_follow_the_item_ids_whatever_the_order_of_the_files(folder: Path) -> None:
    graph = load_graph(folder, "full", folder / "items")
    assert graph.item_ids.to_pylist() == ["a", "b", "c"]
    assert graph.events.tolist() == [7, 2, 0]
    assert graph.is_tail.tolist() == [False, True, True]
    assert graph.is_cold.tolist() == [False, False, True]
    edges = zip(graph.src.tolist(), graph.dst.tolist(), graph.edge_type.tolist(), graph.weight.tolist(), strict=True)
    assert sorted(edges) == [(0, 1, 0, 2.0), (1, 0, 2, 0.5)]
    pairs = zip(graph.pairs.tolist(), graph.pair_steps.tolist(), strict=True)
    assert sorted(pairs) == [([0, 1], 1), ([1, 0], 3)]
    assert graph.items["brand"].to_pylist() == ["x", None]


def test_the_fit_graph_has_no_pair_of_the_hold_out(folder: Path) -> None:
    shutil.copytree(folder / "full", folder / "fit")
    write(folder / "fit" / "nodes", {name: values[1:] for name, values in NODES.items()})
    steps = pa.array([1, 1], pa.int32())
    times = pa.array([dt.datetime(2026, 3, day, tzinfo=dt.UTC) for day in (1, 2)])
    write(
        folder / "transitions",
        {"time": times, "src": ["a", "c"], "dst": ["b", "a"], "steps": steps, "held": [False, True]},
    )
    assert load_graph(folder, "full", None).pairs.tolist() == [[0, 1], [2, 0]]
    assert load_graph(folder, "fit", None).pairs.tolist() == [[0, 1]], "c is known to the hold-out alone"


@pytest.mark.parametrize("path_given", [True, False])
def test_without_a_catalogue_the_items_are_the_nodes(folder: Path, path_given: bool) -> None:
    graph = load_graph(folder, "full", folder / "nowhere" if path_given else None)
    assert graph.items.to_pydict() == {"item_id": ["a", "b", "c"]}


def test_a_graph_without_edges_or_transitions_is_read(folder: Path) -> None:
    none = pa.array([], pa.string())
    write(
        folder / "full" / "edges", {"src": none, "dst": none, "edge_type": none, "weight": pa.array([], pa.float64())}
    )
    held = pa.array([], pa.bool_())
    write(
        folder / "transitions",
        {"time": TIME[:0], "src": none, "dst": none, "steps": pa.array([], pa.int32()), "held": held},
    )
    graph = load_graph(folder, "full", None)
    assert (len(graph.src), graph.pairs.shape, len(graph.pair_steps)) == (0, (0, 2), 0)


@pytest.mark.parametrize("table", ["nodes", "edges", "transitions"])
def test_a_missing_table_is_named(folder: Path, table: str) -> None:
    shutil.rmtree(table_folder(folder, table))
    with pytest.raises(ModelInputError, match=rf"{table} is missing; build the graph again"):
        load_graph(folder, "full", None)


@pytest.mark.parametrize("side", ["src", "dst"])
@pytest.mark.parametrize(("table", "row"), [("edges", EDGES), ("transitions", MOVES)])
def test_an_item_that_is_no_node_is_named(folder: Path, table: str, row: dict[str, Any], side: str) -> None:
    write(table_folder(folder, table), row, {**row, side: ["stranger"]})
    with pytest.raises(ModelInputError, match=rf"{table} names the item 'stranger', .*rebuild the graph"):
        load_graph(folder, "full", None)


def test_an_unknown_edge_type_is_named_beside_the_known_ones(folder: Path) -> None:
    write(folder / "full" / "edges", EDGES, {**EDGES, "edge_type": ["telepathy"]})
    with pytest.raises(ModelInputError, match="'telepathy', not one of strong_click, swing, co_search"):
        load_graph(folder, "full", None)


def test_a_graph_without_items_is_an_error(folder: Path) -> None:
    write(folder / "full" / "nodes", {name: pa.table(NODES).schema.empty_table()[name] for name in NODES})
    with pytest.raises(ModelInputError, match="nodes has no items"):
        load_graph(folder, "full", None)
