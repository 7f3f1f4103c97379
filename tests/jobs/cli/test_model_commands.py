"""`evaluate`, `select-features` and `semantic-ids` on a published version."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.cli.cli import main
from jobs.cli.select_features import features_only
from model.config import ModelConfig
from model.graph import load_graph
from model.propagation import in_neighbours
from tests.jobs.conftest import manifest

SMALL = "[model]\ndim = 16\n[model.train]\nmax_epochs = 0.5\nthreads = 1\n"


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return str(path)


def test_evaluate_reports_every_slice_and_beats_the_simple_methods(shop, tmp_path):
    report = tmp_path / "report.json"
    arguments = ["evaluate", "--workspace", str(shop.workspace), "--events", str(shop.files.test_events)]
    assert main([*arguments, "--baselines", "--output", str(report)]) == 0
    result = json.loads(report.read_text())
    assert set(result) == {"version", "as_of", "protocol", "rows"}
    cells = {(r["model"], r["slice"], r["metric"], r["k"]): r for r in result["rows"]}
    for name in ("all", "tail", "cold"):
        row = cells["LightSAGE", name, "HR", 100]
        assert row["n"] > 0
        assert row["low"] <= row["value"] <= row["high"]
        baselines = [cells[m, name, "HR", 100]["value"] for m in ("transitions", "rules", "item-kNN", "popularity")]
        assert row["value"] > max(baselines), name


def test_evaluate_can_be_limited_to_ads_in_flight(shop, tmp_path):
    report = tmp_path / "report.json"
    arguments = ["evaluate", "--workspace", str(shop.workspace), "--events", str(shop.files.test_events)]
    assert main([*arguments, "--ads-only", "--output", str(report)]) == 0
    assert {"ads"} == {r["slice"] for r in json.loads(report.read_text())["rows"]}


def test_evaluate_tells_how_unknown_ids_may_have_come_about(shop, tmp_path, capsys):
    events = pq.read_table(shop.files.test_events)
    padded = pa.array([None if id_ is None else f"000{id_}" for id_ in events["item_id"].to_pylist()])
    pq.write_table(
        events.set_column(events.schema.get_field_index("item_id"), "item_id", padded), tmp_path / "e.parquet"
    )
    report = tmp_path / "report.json"
    arguments = ["evaluate", "--workspace", str(shop.workspace), "--events", str(tmp_path / "e.parquet")]
    assert main([*arguments, "--output", str(report)]) == 0
    assert "zeros of the ids may be lost" in capsys.readouterr().err
    assert json.loads(report.read_text())["unknown_share"] == 1


def test_evaluate_refuses_events_that_the_version_was_built_from(shop, refused):
    message = refused("evaluate", "--workspace", shop.workspace, "--events", shop.files.events)
    assert "not after the version's as-of time" in message
    assert "--allow-overlap" in message


def test_damaged_training_sessions_are_found_if_the_counting_peers_need_them(workspace, tmp_path, refused):
    with workspace.lock(), workspace.scratch_folder() as staged:
        (staged / "graph" / "sessions").mkdir(parents=True)
        (staged / "graph" / "sessions" / "part.parquet").write_text("sessions")
        name = workspace.publish(staged, manifest()).name
    sessions = tmp_path / "ws" / "versions" / name / "graph" / "sessions" / "part.parquet"
    sessions.write_text("damaged!")
    command = ["evaluate", "--workspace", workspace.uri, "--events", tmp_path / "e.parquet"]
    assert f"{sessions} has SHA-256" in refused(*command, "--baselines")
    assert str(sessions) not in refused(*command)


def test_select_features_chooses_groups_and_compares_models(shop, tmp_path, config, capsys):
    output = tmp_path / "report.json"
    command = ["select-features", "--workspace", str(shop.workspace), "--config", config]
    assert main([*command, "--keep", "2", "--with-ids", "--output", str(output)]) == 0
    report = json.loads(output.read_text())
    assert set(report["kept"]) | set(report["excluded"]) == set(report["confidence"])
    assert 1 <= len(report["kept"]) <= 2
    models = ["all groups", f"{len(report['kept'])} groups"]
    assert list(dict.fromkeys(row["model"] for row in report["rows"])) == [
        *models,
        *(f"{model}, with ids" for model in models),
    ]
    hits = {row["model"]: row["value"] for row in report["rows"] if (row["slice"], row["k"]) == ("all", 100)}
    assert hits["all groups"] != hits["all groups, with ids"]
    output_text = capsys.readouterr().out
    assert f"exclude = {json.dumps(report['excluded'])}" in output_text
    # The printed setting can be pasted into the configuration.
    (tmp_path / "next.toml").write_text(f"[model.features]\nexclude = {json.dumps(report['excluded'])}\n")
    assert main([*command[:3], "--config", str(tmp_path / "next.toml"), "--keep", "9"]) == 2
    assert f"9 of {len(report['kept'])} feature groups" in capsys.readouterr().err


def test_groups_are_chosen_without_ids_neighbours_and_long_tail_averages(shop):
    graph = load_graph(shop.version / "graph", "full", shop.version / "graph" / "tables" / "items")
    config = features_only(ModelConfig())
    neighbours = in_neighbours(graph, config.propagation)
    assert not len(neighbours.neighbour)
    assert not config.tail.enabled
    assert graph.events.max() < config.features.id_min_events
    assert len(in_neighbours(graph, ModelConfig().propagation).neighbour)


def test_semantic_ids_gives_every_item_a_code_with_prefixes(shop, tmp_path, config, capsys):
    output = tmp_path / "codes.parquet"
    command = ["semantic-ids", "--workspace", str(shop.workspace), "--config", config]
    assert main([*command, "--levels", "3", "--size", "16", "--output", str(output)]) == 0
    table = pq.read_table(output)
    assert table.column_names == ["item_id", "code", "prefix_1", "prefix_2", "prefix_3"]
    assert len(table) == len(pq.read_table(shop.version / "embeddings" / "item_ids.parquet"))
    first = table.slice(0, 1).to_pylist()[0]
    assert first["prefix_3"] == "-".join(map(str, first["code"]))
    assert f"{len(table):,} items" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main([*command, "--levels", "3", "--size", "999", "--output", str(output)])
    assert "argument --size: got '999', expected a whole number from 2 to 256" in capsys.readouterr().err
