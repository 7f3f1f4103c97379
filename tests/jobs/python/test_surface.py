"""The names that programs import from `jobs` are light to import, documented, and give the results of commands."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jobs
from jobs import Workspace, build, compare, evaluate, publish, read_embeddings, read_graph, retrieve, train
from jobs.cli.cli import main
from jobs.config import load_config
from jobs.errors import ConfigError, InputNotFoundError
from jobs.python.arguments import as_config
from tests.jobs.conftest import SMALL_MODEL, Shop
from tests.source_tree import ROOT

HEAVY = (
    "torch",
    "torch_geometric",
    "pyspark",
    "faiss",
    "pandas",
    "scipy",
    "numba",
    "fastapi",
    "onnxruntime",
    "sklearn",
)


def modules_after(code: str) -> set[str]:
    """Return the top-level modules that a new Python process has imported after some code."""
    script = f"{code}\nimport sys, json\nprint(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_nothing_is_imported_before_it_is_used() -> None:
    assert not modules_after("import jobs; dir(jobs)") & {*HEAVY, "numpy", "pyarrow", "pydantic", "fsspec", "rich"}
    assert not modules_after(f"from jobs import {', '.join(jobs.__all__)}") & set(HEAVY)


def test_an_import_changes_neither_the_environment_nor_the_log_nor_the_path() -> None:
    code = """
import os, sys, logging
before = dict(os.environ), list(sys.path), list(sys.meta_path), logging.getLogger().handlers[:]
from jobs import *
build, Workspace
assert before == (dict(os.environ), list(sys.path), list(sys.meta_path), logging.getLogger().handlers[:])
"""
    modules_after(code)


def test_every_name_exists_and_is_described_in_the_docs() -> None:
    page = (ROOT / "docs" / "python.md").read_text()
    for name in jobs.__all__:
        assert getattr(jobs, name).__doc__
        assert f"`{name}" in page, name
    assert set(jobs.__all__) <= set(dir(jobs))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        jobs.nothing  # noqa: B018
    tree = ast.parse((ROOT / "jobs" / "__init__.py").read_text())
    typed = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert set(jobs.__all__) <= typed, "type checkers know every name"


def test_answers_are_those_of_the_command(shop: Shop, popular_items: list[str], tmp_path: Path) -> None:
    lists = [popular_items[:1], popular_items[3:6], ["nobody"]]
    queries, output = tmp_path / "q.parquet", tmp_path / "out.parquet"
    pq.write_table(pa.table({"query_id": ["0", "1", "2"], "item_ids": lists}), queries)
    where = ["--workspace", str(shop.workspace), "--queries", str(queries), "--output", str(output)]
    assert main(["retrieve", *where, "--k", "5"]) == 0
    expected = pq.read_table(output)
    assert retrieve(shop.workspace, lists, 5).equals(expected)
    assert retrieve(Workspace(shop.workspace), pq.read_table(queries), 5).equals(expected)
    one = retrieve(shop.workspace, lists[1], 5, version=shop.version.name)
    assert one["item_id"].to_pylist() == [row["item_id"] for row in expected.to_pylist() if row["query_id"] == "1"]
    every = retrieve(shop.workspace, lists[0], 5, all_items=True)
    assert every["ad_id"].null_count == 5
    assert len(retrieve(shop.workspace, [])) > 0, "without an item, popular ads"


def test_measurements_are_those_of_the_commands(shop: Shop, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    arguments = ["--workspace", str(shop.workspace), "--events", str(shop.files.test_events), "--output", str(report)]
    assert main(["evaluate", *arguments, "--protocol", "session"]) == 0
    assert evaluate(shop.workspace, shop.files.test_events, protocol="session") == json.loads(report.read_text())
    name = shop.version.name
    assert main(["compare", name, name, *arguments]) == 0
    result = compare(shop.workspace, name, name, [shop.files.test_events])
    assert result == json.loads(report.read_text())
    assert {row["difference"] for row in result["rows"]} == {0}


def test_embeddings_and_graph_are_read_as_arrays_and_tables(shop: Shop) -> None:
    embeddings = read_embeddings(shop.workspace)
    assert embeddings.query.shape == embeddings.item.shape == (len(embeddings.item_ids), embeddings.query.shape[1])
    assert np.allclose(np.linalg.norm(embeddings.item, axis=1), 1, atol=1e-3)
    graph = read_graph(shop.workspace, shop.version.name)
    assert graph.nodes["item_id"].to_pylist() == embeddings.item_ids.to_pylist()
    assert {"src", "dst", "edge_type", "weight"} <= set(graph.edges.column_names)
    assert graph.items is not None
    assert graph.ads is not None
    assert len(graph.sessions) > 0
    assert len(read_graph(shop.workspace, part="fit").edges) < len(graph.edges)
    with pytest.raises(InputNotFoundError, match="got 'half'"):
        read_graph(shop.workspace, part="half")  # type: ignore[arg-type]


def test_the_graph_becomes_data_of_pyg(shop: Shop) -> None:
    graph = read_graph(shop.workspace)
    data = graph.to_pyg()
    data.validate(raise_on_error=True)
    assert data.num_nodes == len(graph.nodes)
    ids, kinds = data.item_ids, data.edge_types
    ends, types = data.edge_index.T.tolist(), data.edge_type.tolist()
    edges = {
        (ids[src], ids[dst], kinds[kind]): weight
        for (src, dst), kind, weight in zip(ends, types, data.edge_weight.tolist(), strict=True)
    }
    expected = {(row["src"], row["dst"], row["edge_type"]): row["weight"] for row in graph.edges.to_pylist()}
    assert edges == pytest.approx(expected, rel=1e-6)
    assert data.events.tolist() == graph.nodes["events"].to_pylist()


def test_settings_are_a_file_a_recipe_a_mapping_or_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[model]\ndim = 16\n")
    for settings in (path, str(path), {"model": {"dim": 16}}, as_config(path)):
        assert as_config(settings).model.dim == 16
    assert as_config(None) == load_config(None)
    assert as_config("retailrocket") == load_config(None, "retailrocket") != load_config(None)


def test_a_wrong_setting_is_named(shop: Shop) -> None:
    with pytest.raises(ConfigError, match=r"model\.loss\.temprature"):
        retrieve(shop.workspace, ["i1"], config={"model": {"loss": {"temprature": 1}}})


@pytest.mark.slow
@pytest.mark.thorough
def test_a_version_is_retrained_compared_and_published(shop: Shop, tmp_path: Path, spark_for_commands: Any) -> None:
    workspace = Workspace(tmp_path / "shop")
    files, small = shop.files, {"model": SMALL_MODEL}
    first = build(workspace, files.events, items=files.items, ads=files.ads, config=small)
    assert workspace.current() == first.name
    second = train(workspace, config={"model": SMALL_MODEL | {"dim": 8}})
    assert workspace.current() == first.name
    assert workspace.unpublished() == [second.name]
    assert read_embeddings(workspace, second.name).query.shape[1] == 8
    assert read_graph(workspace, second.name).edges.equals(read_graph(workspace, first.name).edges)
    result = compare(workspace, first.name, second.name, files.test_events, frontier=True)
    assert result["settings"] == {"model.dim": [16, 8]}
    assert publish(workspace, second.name, force=True).before == first.name
    assert workspace.current() == second.name
