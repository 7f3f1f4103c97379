"""A complete build: the tables that later steps read, the fit graph, and the same result for any split of the log."""

import json
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.graph_build.conftest import at, event, sorted_rows, table, write_events

TIME = pa.timestamp("us", tz="UTC")
GRAPH = {
    "nodes": {
        "item_id": pa.string(),
        "events": pa.int64(),
        "popularity": pa.float64(),
        "is_tail": pa.bool_(),
        "first_seen": TIME,
        "last_seen": TIME,
        "in_catalogue": pa.bool_(),
    },
    "edges": {"src": pa.string(), "dst": pa.string(), "edge_type": pa.string(), "weight": pa.float64()},
}
TRAINING = {
    "transitions": {
        "session": pa.int64(),
        "time": TIME,
        "src": pa.string(),
        "dst": pa.string(),
        "steps": pa.int32(),
        "kind": pa.string(),
        "held": pa.bool_(),
    },
    "sessions": {
        "session": pa.int64(),
        "start": TIME,
        "kind": pa.string(),
        "items": pa.list_(pa.string()),
        "times": pa.list_(TIME),
        "searches": pa.list_(pa.int64()),
        "country": pa.string(),
        "held": pa.bool_(),
    },
}
ADS = {
    "ad_id": pa.string(),
    "item_id": pa.string(),
    "campaign_id": pa.string(),
    "advertiser_id": pa.string(),
    "starts_at": TIME,
    "ends_at": TIME,
    "status": pa.string(),
    "countries": pa.list_(pa.string()),
    "bid": pa.float64(),
    "version": pa.int64(),
}


def log_rows() -> list[dict[str, Any]]:
    rng = random.Random(3)
    rows = []
    for s in range(80):
        start = at(rng.randrange(1400), day=rng.randrange(3))
        kind = "purchase" if s % 10 == 0 else "view"
        if s % 4 == 1:
            rows.append(event(f"s{s}", start, "search", query=rng.choice(["Shoe", "hat"]), user_id=f"u{s % 20}"))
        rows += [
            event(f"s{s}", start, kind, f"i{rng.randrange(12)}", user_id=f"u{s % 20}")
            for _ in range(rng.randrange(2, 7))
        ]
    return rows


@pytest.fixture(scope="module")
def build(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    from graph_build.build import GraphInputs, build_graphs
    from graph_build.config import GraphConfig

    folder = tmp_path_factory.mktemp("build")
    log = write_events(folder / "log.parquet", log_rows())
    pq.write_table(pa.table({"item_id": ["i1", "new"]}), folder / "items.parquet")
    pq.write_table(pa.table({"ad_id": ["1"], "item_id": ["new"], "campaign_id": ["c"]}), folder / "ads.parquet")
    inputs = GraphInputs([log], str(folder / "items.parquet"), str(folder / "ads.parquet"))
    shares: list[float] = []
    summary = build_graphs(
        spark, inputs, str(folder / "graph"), GraphConfig(), progress=lambda _, share: shares.append(share)
    )
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    return summary, folder / "graph"


def columns(path: Path) -> dict[str, pa.DataType]:
    schema = pq.read_table(path).schema
    return {
        field.name: pa.list_(field.type.value_type) if pa.types.is_list(field.type) else field.type for field in schema
    }


def test_every_table_has_the_columns_of_docs_artefacts(build: tuple[Any, Path]) -> None:
    _, out = build
    for graph in ("full", "fit"):
        for name, expected in GRAPH.items():
            assert columns(out / graph / name) == expected, (graph, name)
    for name, expected in TRAINING.items():
        assert columns(out / name) == expected, name
    assert columns(out / "tables" / "ads") == ADS
    assert columns(out / "quarantine") == dict.fromkeys(["input", "reason", "row"], pa.string())


def test_nodes_and_edges_are_consistent(build: tuple[Any, Path]) -> None:
    summary, out = build
    for graph in ("full", "fit"):
        edges = table(out / graph / "edges")
        nodes = table(out / graph / "nodes")
        ids = [node["item_id"] for node in nodes]
        assert ids == sorted(set(ids))
        assert {"i1", "new"} <= set(ids)
        assert "i2" in ids, "items of the log stay even if the catalogue lacks them"
        new = next(node for node in nodes if node["item_id"] == "new")
        assert (new["events"], new["is_tail"], new["last_seen"], new["in_catalogue"]) == (0, True, None, True)
        assert {node["item_id"] for node in nodes if node["in_catalogue"]} == {"i1", "new"}
        assert all(edge["weight"] > 0 and edge["src"] != edge["dst"] for edge in edges)
        assert len({(e["src"], e["dst"], e["edge_type"]) for e in edges}) == len(edges)
        assert {end for e in edges for end in (e["src"], e["dst"])} <= set(ids)
        assert {e["edge_type"] for e in edges} == {"strong_click", "swing", "co_search"}
    assert summary.nodes == len(table(out / "full" / "nodes"))
    assert sum(summary.edges.values()) == len(table(out / "full" / "edges"))
    assert summary.ads == {"total": 1, "by_status": {"active": 1}, "in_flight": 1, "without_item": 0, "rows": 1}
    assert not (out / "_staging").exists()


def test_the_summary_counts_isolated_items_and_neighbours(build: tuple[Any, Path]) -> None:
    summary, out = build
    neighbours: dict[str, set[str]] = {node["item_id"]: set() for node in table(out / "full" / "nodes")}
    by_type: dict[str, dict[str, set[str]]] = {}
    for edge in table(out / "full" / "edges"):
        of_type = by_type.setdefault(edge["edge_type"], {})
        for item, neighbour in ((edge["src"], edge["dst"]), (edge["dst"], edge["src"])):
            neighbours[item].add(neighbour)
            of_type.setdefault(item, set()).add(neighbour)
    assert summary.isolated == sum(not of_item for of_item in neighbours.values())
    assert summary.isolated > 0
    assert summary.mean_degree == pytest.approx(sum(map(len, neighbours.values())) / len(neighbours))
    for kind, points in summary.degrees.items():
        degrees = [len(of_item) for of_item in by_type[kind].values()]
        assert points == [(n, sum(degree >= n for degree in degrees)) for n, _ in points]
        assert (points[0][0], points[-1][0]) == (1, max(degrees))
    assert summary.degrees.keys() == by_type.keys()


@pytest.mark.slow
def test_the_fit_graph_is_a_build_without_the_held_out_sessions(
    build: tuple[Any, Path], built: Callable[..., Any]
) -> None:
    summary, out = build
    held_out = [row for row in table(out / "sessions") if row["held"]]
    remaining = [row for row in table(out / "sessions") if not row["held"]]
    assert held_out
    assert not {row["session"] for row in held_out} & {row["session"] for row in remaining}
    assert summary.holdout_sessions == len(held_out)
    last = max(row["start"] for row in remaining)
    assert all(row["start"] >= last for row in held_out)
    paired_sessions = {row["session"] for row in table(out / "transitions") if not row["held"]}
    assert paired_sessions <= {row["session"] for row in remaining}

    starts = {(row["start"], row["items"][0]) for row in remaining}
    by_session: dict[str, list[dict[str, Any]]] = {}
    for row in log_rows():
        by_session.setdefault(row["session_id"], []).append(row)
    log = [
        row
        for rows in by_session.values()
        if (rows[0]["timestamp"], next(r["item_id"] for r in rows if r["item_id"])) in starts
        for row in rows
    ]
    pq.write_table(pa.table({"item_id": ["i1", "new"]}), out.parent / "items2.parquet")
    _, without_holdout = built(log, items=str(out.parent / "items2.parquet"), holdout_share=0.0)
    for name in GRAPH:
        assert sorted_rows(out / "fit" / name) == sorted_rows(without_holdout / "full" / name), name


@pytest.mark.slow
def test_the_same_log_in_other_splits_gives_the_same_graph(
    build: tuple[Any, Path], spark: Any, built: Callable[..., Any], tmp_path: Path
) -> None:
    _, out = build
    rows = log_rows()
    folder = tmp_path / "log"
    for n in range(4):
        part = rows[n * len(rows) // 4 : (n + 1) * len(rows) // 4]
        write_events(folder / f"part-{n}.parquet", part, row_group_size=7)
    items = out.parent / "items.parquet"
    partitions = spark.conf.get("spark.sql.shuffle.partitions")
    spark.conf.set("spark.sql.shuffle.partitions", "5")
    try:
        _, split = built(str(folder), items=str(items))
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", partitions)
    for graph in ("full", "fit"):
        for name in GRAPH:
            assert sorted_rows(out / graph / name) == sorted_rows(split / graph / name), (graph, name)
    for name in TRAINING:
        assert sorted_rows(out / name) == sorted_rows(split / name), name


def test_the_report_loads_nothing_and_shows_the_counts(build: tuple[Any, Path]) -> None:
    summary, out = build
    page = (out / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"<script|src=|href=|https?://", page)
    assert "<svg" in page
    assert f"{summary.edges['strong_click']:,}" in page
    assert "prefers-color-scheme: dark" in page
    assert json.loads((out / "summary.json").read_text())["as_of"] == summary.as_of.isoformat()


def test_the_configuration_imports_no_heavy_library_and_refuses_unknown_keys() -> None:
    code = "import sys, graph_build.config; sys.exit(any(m in sys.modules for m in ('pyspark', 'pyarrow', 'numba')))"
    subprocess.run([sys.executable, "-c", code], check=True)
    from graph_build.config import GraphConfig

    with pytest.raises(ValueError, match="swingg"):
        GraphConfig.model_validate({"swingg": {}})
