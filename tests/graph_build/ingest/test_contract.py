"""What is refused before Spark starts any work, with which words."""

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from graph_build.__main__ import main
from graph_build.config import GraphConfig
from graph_build.errors import GraphInputError
from graph_build.ingest.files import local_sources
from graph_build.ingest.spark_reader import check_paths
from tests.graph_build.conftest import GOOD, at, config, parquet, write_events


def complaint(name: str, path: str, settings: GraphConfig | None = None) -> str:
    with pytest.raises(GraphInputError) as caught:
        local_sources(name, [path], (settings or GraphConfig()).input)  # type: ignore[arg-type]
    return str(caught.value)


@pytest.mark.parametrize("text", ["[graph", "[graph]\nzzz = 1", None])
def test_the_job_of_a_cluster_names_a_configuration_that_it_cannot_use(
    tmp_path: Path, text: str | None, caplog: Any
) -> None:
    path = tmp_path / "c.toml"
    if text is not None:
        path.write_text(text)
    assert main(["--events", "e", "--out", str(tmp_path / "out"), "--config", str(path)]) == 2
    assert str(path) in caplog.text


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "nowhere.parquet: the events file or folder does not exist" in complaint(
        "events", str(tmp_path / "nowhere.parquet")
    )


def test_a_file_that_is_not_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "events.parquet").write_text("hello")
    assert "events.parquet" in complaint("events", str(tmp_path / "events.parquet"))
    assert "not a parquet file" in complaint("events", str(tmp_path))


def test_an_empty_folder_and_an_empty_csv_are_named(tmp_path: Path) -> None:
    assert "holds no file" in complaint("events", str(tmp_path))
    (tmp_path / "e.csv").write_text("")
    assert "header" in complaint("events", str(tmp_path / "e.csv"))


def test_a_missing_column_says_what_there_is_and_how_to_map_it(tmp_path: Path) -> None:
    path = parquet(tmp_path / "e.parquet", [{"session_id": "s", "timestamp": at(1), "event_type": "view", "sku": "a"}])
    message = complaint("events", path)
    for part in ("e.parquet", "'item_id'", "string", "sku", '[input.events.columns] item_id = "your_column"'):
        assert part in message
    assert local_sources("events", [path], config(events={"columns": {"item_id": "sku"}}).input)


def test_a_mapping_of_an_unknown_column_is_refused(tmp_path: Path) -> None:
    path = write_events(tmp_path / "e.parquet", GOOD)
    assert "'itm'" in complaint("events", path, config(events={"columns": {"itm": "sku"}}))


@pytest.mark.parametrize(
    ("column", "kind", "value"),
    [
        ("item_id", pa.float64(), 1.0),
        ("item_id", pa.bool_(), True),
        ("item_id", pa.list_(pa.string()), ["a"]),
        ("timestamp", pa.float64(), 1.0),
        ("timestamp", pa.int64(), 1),
        ("event_type", pa.int64(), 1),
    ],
)
def test_a_wrong_type_names_file_column_found_and_expected(
    tmp_path: Path, column: str, kind: pa.DataType, value: object
) -> None:
    good = {
        "session_id": pa.array(["s"]),
        "timestamp": pa.array([at(1)]),
        "event_type": pa.array(["view"]),
        "item_id": pa.array(["a"]),
    }
    pq.write_table(pa.table(good | {column: pa.array([value], kind)}), tmp_path / "e.parquet")
    message = complaint("events", str(tmp_path / "e.parquet"))
    assert "e.parquet" in message
    assert repr(column) in message
    assert str(kind).partition("<")[0] in message
    assert "expected" in message
    if kind == pa.int64() and column == "timestamp":
        assert "timestamp_unit" in message


def test_a_header_that_names_a_column_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.csv"
    path.write_text("session_id,timestamp,event_type,item_id,note,note\n")
    assert "twice.csv: the header of events names 'note' twice" in complaint("events", str(path))


@pytest.mark.parametrize(("name", "odd"), [("logs[eu]/e.parquet", "[ ]"), ("10:00.parquet", ":"), ("a*.parquet", "*")])
def test_paths_that_spark_takes_for_patterns_are_refused_by_name(tmp_path: Path, name: str, odd: str) -> None:
    (source,) = local_sources("events", [write_events(tmp_path / name, GOOD)], config().input)
    with pytest.raises(GraphInputError, match=re.escape(f"Spark cannot read a path with {odd} in it")):
        check_paths(source)


def test_linked_folders_are_read_and_rings_are_not(tmp_path: Path) -> None:
    real = tmp_path / "real"
    (tmp_path / "log" / "2026-03-14").mkdir(parents=True)
    real.mkdir()
    for folder in (real, tmp_path / "log" / "2026-03-14"):
        parquet(folder / "e.parquet", GOOD)
    (tmp_path / "log" / "2026-03-15").symlink_to(real)
    (tmp_path / "log" / "ring").symlink_to(tmp_path / "log")
    [source] = local_sources("events", [str(tmp_path / "log")], config().input)
    assert [Path(file).parent.name for file in source.files] == ["2026-03-14", "2026-03-15"]


def test_a_configured_feature_must_be_there(tmp_path: Path) -> None:
    path = parquet(tmp_path / "i.parquet", [{"item_id": "a"}])
    assert "'colour'" in complaint("items", path, config(items={"features": ["colour"]}))
