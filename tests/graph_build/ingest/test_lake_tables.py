"""Delta and Iceberg tables are read from their files in force; if these alone do not suffice, a table is refused."""

import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from graph_build.config import InputConfig
from graph_build.ingest.arrow_reader import read_events
from graph_build.ingest.lake_tables import lake_format
from tests.graph_build.conftest import config, input_error
from tests.graph_build.ingest.cases import NOW
from tests.graph_build.ingest.layout_cases import record

ROWS = pa.Table.from_pylist([record(str(n), country="DE" if n % 2 else None, price=n) for n in range(4)])


def items_of(path: Path) -> list[str]:
    return sorted(read_events([str(path)], InputConfig(), NOW).rows["item_id"].to_pylist())


@pytest.fixture
def delta(tmp_path: Path) -> Path:
    deltalake = pytest.importorskip("deltalake")
    path = tmp_path / "delta"
    deltalake.write_deltalake(path, ROWS, partition_by=["country"])
    deltalake.write_deltalake(path, ROWS.slice(0, 1), mode="append")
    deltalake.DeltaTable(path).delete("item_id = '3'")
    return path


@pytest.fixture
def iceberg(tmp_path: Path) -> Any:
    pytest.importorskip("pyiceberg")
    pytest.importorskip("sqlalchemy")
    from pyiceberg.catalog.memory import InMemoryCatalog

    catalog = InMemoryCatalog("test", warehouse=tmp_path.as_uri())
    catalog.create_namespace("shop")
    table = catalog.create_table("shop.log", schema=ROWS.schema)
    table.append(ROWS)
    table.append(ROWS.slice(0, 1))
    table.delete("item_id = '3'")
    return table


def test_only_the_files_in_force_of_a_delta_table_are_read(delta: Path) -> None:
    assert items_of(delta) == ["0", "0", "1", "2"]
    assert len(list(delta.rglob("*.parquet"))) > 3, "the folder holds a file that is no longer in force"


def test_only_the_files_in_force_of_an_iceberg_table_are_read(tmp_path: Path, iceberg: Any) -> None:
    assert items_of(tmp_path / "shop" / "log") == ["0", "0", "1", "2"]


def test_a_part_of_a_table_is_refused_with_the_table(delta: Path, tmp_path: Path) -> None:
    assert f"lies in the table {delta}" in input_error("events", str(delta / "country=DE"))
    assert f"lies in the table {delta}" in input_error("events", str(next(delta.rglob("*.parquet"))))
    assert f"the folder holds the table {delta}" in input_error("events", str(tmp_path))


def test_a_renamed_column_of_an_iceberg_table_is_refused(tmp_path: Path, iceberg: Any) -> None:
    with iceberg.update_schema() as update:
        update.rename_column("item_id", "sku")
    error = input_error("events", str(tmp_path / "shop" / "log"))
    assert "the column 'sku' of the Iceberg table of events has another name in" in error
    assert "table:NAME" in error


@pytest.mark.parametrize(
    ("module", "log"), [("deltalake", "_delta_log/0.json"), ("pyiceberg", "metadata/v1.metadata.json")]
)
def test_a_table_is_refused_with_the_way_out_where_its_package_is_missing(
    tmp_path: Path, module: str, log: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / log).parent.mkdir()
    (tmp_path / log).write_text("{}")
    for name in (module, f"{module}.table"):
        monkeypatch.setitem(sys.modules, name, None)
    error = input_error("events", str(tmp_path))
    assert f"the package {module} is not installed; install it (pip install {module})" in error


def test_a_damaged_log_of_a_table_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("deltalake")
    (tmp_path / "_delta_log").mkdir()
    (tmp_path / "_delta_log" / f"{0:020}.json").write_text("{}")
    error = input_error("events", str(tmp_path))
    assert "events cannot be read as a Delta table (" in error
    assert "\n" not in error


def test_a_folder_that_is_no_table_is_refused_where_the_configuration_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").touch()
    error = input_error("events", str(tmp_path), config(events={"format": "delta"}))
    assert "events are no Delta table; correct [input.events] format" in error


def test_a_table_is_told_by_its_log_alone() -> None:
    assert lake_format(["_delta_log/0.json", "a.parquet"]) == "delta"
    assert lake_format(["data/a.parquet", "metadata/v3.metadata.json"]) == "iceberg"
    assert lake_format(["metadata/a.json", "x/_delta_log/0.json"]) is None


def test_a_table_of_spark_needs_spark() -> None:
    assert "table:shop.log: only Spark reads a table of Spark" in input_error("events", "table:shop.log")
