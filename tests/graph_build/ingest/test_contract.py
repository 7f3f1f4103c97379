"""Columns that do not fit the contract are refused before any engine reads them, and the error says what to do."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from graph_build.ingest.contract import is_number
from graph_build.ingest.files import find_sources
from tests.graph_build.conftest import GOOD, at, config, input_error, parquet, write_events


def test_the_error_of_a_missing_column_lists_the_columns_and_says_how_to_map_one(tmp_path: Path) -> None:
    path = parquet(tmp_path / "e.parquet", [{"session_id": "s", "timestamp": at(1), "event_type": "view", "sku": "a"}])
    message = input_error("events", path)
    for part in ("e.parquet", "'item_id'", "string", "sku", '[input.events.columns] item_id = "your_column"'):
        assert part in message
    assert find_sources("events", [path], config(events={"columns": {"item_id": "sku"}}).input)


def test_events_without_sessions_and_users_are_refused_with_the_lines_to_write(tmp_path: Path) -> None:
    rows = [{"visitor": "v", "timestamp": at(1), "event_type": "view", "item_id": "a"}]
    path = parquet(tmp_path / "e.parquet", rows)
    message = input_error("events", path)
    for part in ("e.parquet", "'session_id' or 'user_id'", "visitor", 'user_id = "your_column"'):
        assert part in message
    for columns in ({"user_id": "visitor"}, {"session_id": "", "user_id": "visitor"}, {"session_id": "visitor"}):
        assert find_sources("events", [path], config(events={"columns": columns}).input)
    message = input_error("events", path, config(events={"columns": {"session_id": "", "user_id": "client"}}))
    assert "'session_id' or 'client'" in message


def test_a_mapping_of_an_unknown_column_is_refused(tmp_path: Path) -> None:
    path = write_events(tmp_path / "e.parquet", GOOD)
    assert "'itm'" in input_error("events", path, config(events={"columns": {"itm": "sku"}}))


@pytest.mark.parametrize(
    ("column", "type_", "value"),
    [
        ("item_id", pa.float64(), 1.0),
        ("item_id", pa.bool_(), True),
        ("item_id", pa.list_(pa.string()), ["a"]),
        ("timestamp", pa.float64(), 1.0),
        ("timestamp", pa.int64(), 1),
        ("event_type", pa.int64(), 1),
    ],
)
def test_the_error_of_a_wrong_type_names_file_column_type_and_expected_type(
    tmp_path: Path, column: str, type_: pa.DataType, value: object
) -> None:
    columns = {
        "session_id": pa.array(["s"]),
        "timestamp": pa.array([at(1)]),
        "event_type": pa.array(["view"]),
        "item_id": pa.array(["a"]),
    }
    pq.write_table(pa.table(columns | {column: pa.array([value], type_)}), tmp_path / "e.parquet")
    message = input_error("events", str(tmp_path / "e.parquet"))
    assert "e.parquet" in message
    assert repr(column) in message
    assert str(type_).partition("<")[0] in message
    assert "expected" in message
    assert ("timestamp_unit" in message) == (is_number(type_) and column == "timestamp")


def test_a_configured_feature_that_the_items_lack_is_refused(tmp_path: Path) -> None:
    path = parquet(tmp_path / "i.parquet", [{"item_id": "a"}])
    assert "'colour'" in input_error("items", path, config(items={"features": ["colour"]}))
