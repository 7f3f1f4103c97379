"""Wrong input: the message names what is wrong and what to do, and no file is left half-written."""

import datetime as dt
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.cli.cli import main
from jobs.workspace.workspace import Workspace

NOON = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


def write_events(path: Path, n: int = 40, **columns: object) -> Path:
    """Write sessions of two views each; a keyword argument replaces a column, or drops it if it is None."""
    table = {
        "session_id": [f"s{i // 2}" for i in range(n)],
        "timestamp": pa.array([NOON + dt.timedelta(seconds=i) for i in range(n)], pa.timestamp("us", "UTC")),
        "event_type": ["view"] * n,
        "item_id": [f"i{i % 7}" for i in range(n)],
    } | columns
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({name: column for name, column in table.items() if column is not None}), path)
    return path


@pytest.fixture
def workspace(tmp_path, spark_for_commands):
    """Yield a path for a workspace, in which a refused command must leave nothing but finished stages."""
    path = tmp_path / "workspace"
    yield path
    assert not (path / "current").exists()
    assert not (path / "lock").exists()
    files = [file.relative_to(path) for file in path.rglob("*") if file.is_file()]
    assert {file.parts[0] for file in files} <= {"build"}, "only finished stages stay"
    assert all((stage / "stage.json").is_file() for stage in (path / "build").glob("*"))


def test_a_missing_file_is_named(refused, workspace, tmp_path):
    message = refused("run", "--events", tmp_path / "nowhere.parquet", "--workspace", workspace)
    assert "nowhere.parquet does not exist" in message


def test_a_missing_column_is_named_with_its_file(refused, workspace, tmp_path):
    path = write_events(tmp_path / "events.parquet", item_id=None)
    message = refused("run", "--events", path, "--workspace", workspace)
    assert "events.parquet" in message
    assert "item_id" in message


def test_a_wrong_type_is_named_with_file_column_and_expected_type(refused, workspace, tmp_path):
    path = write_events(tmp_path / "events.parquet", item_id=[1.5] * 40)
    message = refused("run", "--events", path, "--workspace", workspace)
    for part in ("events.parquet", "item_id", "double", "string"):
        assert part in message


def test_integer_times_need_a_unit(refused, workspace, tmp_path):
    path = write_events(tmp_path / "events.parquet", timestamp=list(range(40)))
    message = refused("run", "--events", path, "--workspace", workspace)
    assert "timestamp" in message
    assert "timestamp_unit" in message


def test_a_log_without_events_is_refused(refused, workspace, tmp_path):
    message = refused("run", "--events", write_events(tmp_path / "events.parquet", n=0), "--workspace", workspace)
    assert "event" in message


def test_a_log_without_valid_rows_is_refused(refused, workspace, tmp_path):
    path = write_events(tmp_path / "events.parquet", event_type=["hover"] * 40)
    message = refused("run", "--events", path, "--workspace", workspace)
    assert "40" in message


def test_a_file_that_is_not_parquet_is_named(refused, workspace, tmp_path):
    path = tmp_path / "events.parquet"
    path.write_text("this is not parquet")
    message = refused("run", "--events", path, "--workspace", workspace)
    assert "events.parquet" in message
    assert "parquet" in message


@pytest.mark.slow
def test_sessions_of_one_item_each_are_refused(refused, workspace, tmp_path):
    path = write_events(tmp_path / "events.parquet", session_id=[f"s{i}" for i in range(40)])
    message = refused("run", "--events", path, "--workspace", workspace)
    assert "session_id" in message


def test_an_unknown_configuration_key_is_named(refused, workspace, tmp_path):
    config = tmp_path / "c.toml"
    config.write_text("[model.loss]\ntemprature = 0.2\n")
    message = refused(
        "run", "--events", write_events(tmp_path / "e.parquet"), "--workspace", workspace, "--config", config
    )
    assert "model.loss.temprature" in message


@pytest.mark.parametrize("items_table", ["missing", "without the feature"])
def test_model_features_that_the_graph_does_not_have_are_refused_before_the_build(
    refused, workspace, tmp_path, items_table
):
    config, items = tmp_path / "c.toml", tmp_path / "items.parquet"
    config.write_text('[model.features]\ncolumns = ["season"]\n')
    pq.write_table(pa.table({"item_id": ["i1"], "season": ["spring"]}), items)
    flags = [] if items_table == "missing" else ["--items", items]
    arguments = ["run", "--events", write_events(tmp_path / "e.parquet"), "--workspace", workspace, "--config", config]
    message = refused(*arguments, *flags)
    assert "'season'" in message
    assert ("--items" if items_table == "missing" else "[input.items] features") in message


def test_commands_that_need_a_version_say_how_to_build_one(refused, workspace, tmp_path):
    for command in (
        ["retrieve", "--queries", "q.parquet", "--k", 5, "--output", tmp_path / "o.parquet"],
        ["evaluate", "--events", "t.parquet"],
        ["serve", "--port", 0],
    ):
        assert "has no published version: run `lightsage run` first" in refused(*command, "--workspace", workspace)


def test_k_below_one_writes_nothing(refused, shop, tmp_path):
    queries, out = tmp_path / "q.parquet", tmp_path / "out.parquet"
    pq.write_table(pa.table({"query_id": ["q"], "item_ids": [["i1"]]}), queries)
    message = refused("retrieve", "--workspace", shop.workspace, "--queries", queries, "--k", 0, "--output", out)
    assert "k: got 0, expected at least 1" in message
    assert list(tmp_path.iterdir()) == [queries]


def test_a_missing_column_of_the_queries_is_named(refused, shop, tmp_path):
    queries = tmp_path / "q.parquet"
    pq.write_table(pa.table({"query": ["q"]}), queries)
    arguments = ["retrieve", "--workspace", shop.workspace, "--k", 3, "--output", tmp_path / "out.parquet"]
    assert "query_id" in refused(*arguments, "--queries", queries)
    assert "does not exist" in refused(*arguments, "--queries", tmp_path / "nowhere.parquet")


def test_a_mistyped_column_of_the_queries_is_named_with_its_file(refused, shop, tmp_path):
    queries = tmp_path / "q.parquet"
    pq.write_table(pa.table({"query_id": ["q"], "item_ids": [["i1"]], "contry": ["DE"]}), queries)
    message = refused(
        "retrieve", "--workspace", shop.workspace, "--queries", queries, "--k", 3, "--output", tmp_path / "out.parquet"
    )
    assert f"{queries}: unknown column 'contry', expected query_id, item_ids, at, country" in message
    assert list(tmp_path.iterdir()) == [queries]


def test_an_output_that_cannot_be_written_is_refused_before_the_work(refused, shop, tmp_path):
    (tmp_path / "file").touch()
    for output, reason in (
        (tmp_path / "out.csv", "must end in .parquet"),
        (tmp_path, "is a folder; give a file in it"),
        (tmp_path / "file" / "out.parquet", "file is a file, expected a folder"),
    ):
        message = refused(
            "retrieve", "--workspace", shop.workspace, "--queries", "no-queries", "--k", 3, "--output", output
        )
        assert f"--output {output}" in message
        assert reason in message
    message = refused("evaluate", "--workspace", shop.workspace, "--events", "no-events", "--output", tmp_path)
    assert "is a folder" in message


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_damaged_file_is_refused_but_only_by_commands_that_read_it(refused, shop, tmp_path):
    workspace = tmp_path / "workspace"
    shutil.copytree(shop.workspace, workspace)
    queries = tmp_path / "q.parquet"
    pq.write_table(pa.table({"query_id": ["q"], "item_ids": [["i1"]]}), queries)
    retrieve = [
        "retrieve",
        "--workspace",
        workspace,
        "--queries",
        queries,
        "--k",
        3,
        "--output",
        tmp_path / "out.parquet",
    ]
    version = workspace / "versions" / shop.version.name
    flip_a_byte(version / "embeddings" / "item.npy")
    assert main([str(part) for part in retrieve]) == 0
    flip_a_byte(version / "index" / "item.npy")
    for command in (retrieve, ["serve", "--workspace", workspace, "--port", 0]):
        message = refused(*command)
        assert f"{version / 'index' / 'item.npy'} has SHA-256" in message
        assert "Run `lightsage run` again to rebuild it" in message


def test_a_second_run_in_the_same_workspace_is_refused(tmp_path, capsys):
    path, workspace = write_events(tmp_path / "events.parquet"), tmp_path / "workspace"
    with Workspace(workspace).lock():
        assert main(["run", "--events", str(path), "--workspace", str(workspace)]) == 3
    assert f"{workspace} is being written by process" in capsys.readouterr().err


@pytest.mark.slow
def test_bad_rows_are_counted_and_kept_in_quarantine(tmp_path, spark_for_commands):
    workspace = tmp_path / "workspace"
    log = write_events(
        tmp_path / "e.parquet",
        event_type=["view"] * 39 + ["hover"],
        item_id=[f"i{i % 7}" for i in range(38)] + [None, "i1"],
    )
    items = tmp_path / "items.parquet"
    nan = float("nan")
    pq.write_table(
        pa.table(
            {
                "item_id": ["i1", "i1", "i2", "i3"],
                "price": [1.0, 2.0, 3.0, nan],
                "embedding": [[1.0, 0.0], [0.0, 1.0], [nan, 1.0], [0.5, 0.5]],
            }
        ),
        items,
    )
    ads = tmp_path / "ads.parquet"
    pq.write_table(pa.table({"ad_id": ["a1", "a2"], "item_id": ["i1", "no-such-item"], "campaign_id": ["c", "c"]}), ads)
    arguments = ["--events", str(log), "--items", str(items), "--ads", str(ads), "--workspace", str(workspace)]
    assert main(["run", *arguments]) == 0
    version = workspace / "versions" / json.loads((workspace / "current").read_text())["version"]
    counted = json.loads((version / "graph" / "summary.json").read_text())["quarantined"]
    assert sum(counted["events"].values()) == 2
    assert sum(counted["items"].values()) >= 3
    assert sum(counted["ads"].values()) == 1
    quarantine = pq.read_table(version / "graph" / "quarantine").to_pylist()
    assert len(quarantine) == sum(sum(reasons.values()) for reasons in counted.values())
    assert all(json.loads(row["row"]) for row in quarantine)
