"""Wrong input gets a message that names what is wrong and the way out, and leaves nothing half-written."""

import datetime as dt
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.cli.cli import main
from jobs.workspace.workspace import Workspace

T = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


def events(path: Path, n: int = 40, **columns: object) -> Path:
    """Sessions of two views each; a keyword replaces a column, None drops it."""
    table = {
        "session_id": [f"s{i // 2}" for i in range(n)],
        "timestamp": pa.array([T + dt.timedelta(seconds=i) for i in range(n)], pa.timestamp("us", "UTC")),
        "event_type": ["view"] * n,
        "item_id": [f"i{i % 7}" for i in range(n)],
    } | columns
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({name: column for name, column in table.items() if column is not None}), path)
    return path


@pytest.fixture
def workspace(tmp_path, spark_for_commands):
    """A path for a workspace; whatever was refused, nothing was published and no scratch folder is left in it."""
    path = tmp_path / "workspace"
    yield path
    assert not (path / "current").exists()
    assert not (path / "lock").exists()
    assert not path.exists() or not [p for p in path.rglob("*") if p.is_file()]


def test_missing_file(refused, workspace, tmp_path):
    said = refused("run", "--events", tmp_path / "nowhere.parquet", "--workspace", workspace)
    assert "nowhere.parquet does not exist" in said


def test_missing_column_names_file_and_column(refused, workspace, tmp_path):
    path = events(tmp_path / "events.parquet", item_id=None)
    said = refused("run", "--events", path, "--workspace", workspace)
    assert "events.parquet" in said
    assert "item_id" in said


def test_wrong_type_names_file_column_found_and_expected(refused, workspace, tmp_path):
    path = events(tmp_path / "events.parquet", item_id=[1.5] * 40)
    said = refused("run", "--events", path, "--workspace", workspace)
    for part in ("events.parquet", "item_id", "double", "string"):
        assert part in said


def test_integer_times_need_their_unit(refused, workspace, tmp_path):
    path = events(tmp_path / "events.parquet", timestamp=list(range(40)))
    said = refused("run", "--events", path, "--workspace", workspace)
    assert "timestamp" in said
    assert "timestamp_unit" in said


def test_empty_events(refused, workspace, tmp_path):
    said = refused("run", "--events", events(tmp_path / "events.parquet", n=0), "--workspace", workspace)
    assert "event" in said


def test_all_rows_bad(refused, workspace, tmp_path):
    path = events(tmp_path / "events.parquet", event_type=["hover"] * 40)
    said = refused("run", "--events", path, "--workspace", workspace)
    assert "40" in said


def test_a_file_that_is_not_parquet(refused, workspace, tmp_path):
    path = tmp_path / "events.parquet"
    path.write_text("this is not parquet")
    said = refused("run", "--events", path, "--workspace", workspace)
    assert "events.parquet" in said
    assert "parquet" in said


def test_sessions_without_two_items_cannot_be_trained_on(refused, workspace, tmp_path):
    path = events(tmp_path / "events.parquet", session_id=[f"s{i}" for i in range(40)])
    said = refused("run", "--events", path, "--workspace", workspace)
    assert "session_id" in said


def test_unknown_configuration_key_is_named(refused, workspace, tmp_path):
    config = tmp_path / "c.toml"
    config.write_text("[model.loss]\ntemprature = 0.2\n")
    said = refused("run", "--events", events(tmp_path / "e.parquet"), "--workspace", workspace, "--config", config)
    assert "model.loss.temprature" in said


@pytest.mark.parametrize("given", ["no items", "not kept"])
def test_features_that_the_graph_would_not_keep_are_named_before_it_is_built(refused, workspace, tmp_path, given):
    config, items = tmp_path / "c.toml", tmp_path / "items.parquet"
    config.write_text('[model.features]\ncolumns = ["season"]\n')
    pq.write_table(pa.table({"item_id": ["i1"], "season": ["spring"]}), items)
    more = [] if given == "no items" else ["--items", items]
    base = ["run", "--events", events(tmp_path / "e.parquet"), "--workspace", workspace, "--config", config]
    said = refused(*base, *more)
    assert "'season'" in said
    assert ("--items" if given == "no items" else "[input.items] features") in said


def test_no_published_version(refused, workspace, tmp_path):
    for command in (
        ["retrieve", "--queries", "q.parquet", "--k", 5, "--output", tmp_path / "o.parquet"],
        ["evaluate", "--events", "t.parquet"],
        ["serve", "--port", 0],
    ):
        assert "has no published version: run `lightsage run` first" in refused(*command, "--workspace", workspace)


def test_k_below_one_writes_nothing(refused, shop, tmp_path):
    asked, out = tmp_path / "q.parquet", tmp_path / "out.parquet"
    pq.write_table(pa.table({"query_id": ["q"], "item_ids": [["i1"]]}), asked)
    said = refused("retrieve", "--workspace", shop.workspace, "--queries", asked, "--k", 0, "--output", out)
    assert "k: got 0, expected at least 1" in said
    assert list(tmp_path.iterdir()) == [asked]


def test_queries_without_their_columns(refused, shop, tmp_path):
    asked = tmp_path / "q.parquet"
    pq.write_table(pa.table({"query": ["q"]}), asked)
    base = ["retrieve", "--workspace", shop.workspace, "--k", 3, "--output", tmp_path / "out.parquet"]
    assert "query_id" in refused(*base, "--queries", asked)
    assert "does not exist" in refused(*base, "--queries", tmp_path / "nowhere.parquet")


def test_a_mistyped_column_of_the_queries_is_named_with_its_file(refused, shop, tmp_path):
    asked = tmp_path / "q.parquet"
    pq.write_table(pa.table({"query_id": ["q"], "item_ids": [["i1"]], "contry": ["DE"]}), asked)
    said = refused(
        "retrieve", "--workspace", shop.workspace, "--queries", asked, "--k", 3, "--output", tmp_path / "out.parquet"
    )
    assert f"{asked}: unknown column 'contry', expected query_id, item_ids, at, country" in said
    assert list(tmp_path.iterdir()) == [asked]


def test_an_output_that_cannot_be_written_is_refused_before_the_work(refused, shop, tmp_path):
    (tmp_path / "file").touch()
    for output, why in (
        (tmp_path / "out.csv", "must end in .parquet"),
        (tmp_path, "is a folder; give a file in it"),
        (tmp_path / "file" / "out.parquet", "file is a file, expected a folder"),
    ):
        said = refused(
            "retrieve", "--workspace", shop.workspace, "--queries", "no-queries", "--k", 3, "--output", output
        )
        assert f"--output {output}" in said
        assert why in said
    said = refused("evaluate", "--workspace", shop.workspace, "--events", "no-events", "--output", tmp_path)
    assert "is a folder" in said


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_damage_is_refused_with_the_way_out_but_only_where_it_is_read(refused, shop, tmp_path):
    workspace = tmp_path / "workspace"
    shutil.copytree(shop.workspace, workspace)
    asked = tmp_path / "q.parquet"
    pq.write_table(pa.table({"query_id": ["q"], "item_ids": [["i1"]]}), asked)
    ask = ["retrieve", "--workspace", workspace, "--queries", asked, "--k", 3, "--output", tmp_path / "out.parquet"]
    version = workspace / "versions" / shop.version.name
    flip_a_byte(version / "embeddings" / "item.npy")
    assert main([str(part) for part in ask]) == 0
    flip_a_byte(version / "index" / "item.npy")
    for command in (ask, ["serve", "--workspace", workspace, "--port", 0]):
        said = refused(*command)
        assert f"{version / 'index' / 'item.npy'} has SHA-256" in said
        assert "Run `lightsage run` again to build it anew" in said


def test_two_runs_at_once_in_one_workspace(shop, tmp_path, capsys):
    path = events(tmp_path / "events.parquet")
    with Workspace(shop.workspace).lock():
        assert main(["run", "--events", str(path), "--workspace", str(shop.workspace)]) == 3
    assert f"{shop.workspace} is being written by process" in capsys.readouterr().err


def test_bad_rows_ids_and_vectors_are_counted_not_lost(tmp_path, spark_for_commands):
    workspace = tmp_path / "workspace"
    log = events(
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
    kept = pq.read_table(version / "graph" / "quarantine").to_pylist()
    assert len(kept) == sum(sum(reasons.values()) for reasons in counted.values())
    assert all(json.loads(row["row"]) for row in kept)
