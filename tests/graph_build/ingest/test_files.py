"""Files that cannot be read are refused by name before any engine reads them, and linked folders are read once."""

import bz2
import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from graph_build.ingest.files import files_of, find_sources
from tests.graph_build.conftest import GOOD, config, input_error, parquet
from tests.graph_build.ingest import file_cases
from tests.graph_build.ingest.file_cases import HEADER, START, csv

CUT = (file_cases.parquet(), csv(HEADER, f"{START},1,q"))


def test_a_missing_file_is_named_in_the_error(tmp_path: Path) -> None:
    assert "nowhere.parquet: the events file or folder does not exist" in input_error(
        "events", str(tmp_path / "nowhere.parquet")
    )


def test_files_are_read_in_the_order_of_their_names_with_numbers_as_numbers(tmp_path: Path) -> None:
    in_order = ["2026-3-9/a.csv", "2026-3-10/a.csv", "ads_9.csv", "ads_009.csv", "ads_10.csv", "b.csv"]
    in_order[2:4] = sorted(in_order[2:4])
    for name in in_order:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(csv(HEADER, f"{START},1,"))
    assert files_of("events", str(tmp_path)) == [str(tmp_path / name) for name in in_order]


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "_SUCCESS").touch()
    assert "holds no file" in input_error("events", str(tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.parquet", b"", "the file is empty"),
        ("a.parquet", csv(HEADER), "it is not a parquet file"),
        ("a.parquet", b"PARE" + CUT[0][4:-4] + b"PARE", "encrypted; write it without encryption"),
        ("a.parquet", CUT[0][:-9], "damaged or cut off"),
        ("part-0", b"hello", "it is not a parquet file"),
        ("a.csv", b"", "the events file is empty"),
        ("a.csv", b"\n\n", "has no header"),
        ("a.csv", CUT[0], "the events file is parquet; name it .parquet"),
        ("a.csv", gzip.compress(CUT[1], mtime=0), "compressed with gzip; its name must end in .gz"),
        ("a.csv.gz", CUT[1], "Not a gzipped file"),
        ("a.csv.gz", gzip.compress(CUT[1], mtime=0)[:-9], "cannot be read as CSV"),
        ("a.csv.bz2", bz2.compress(CUT[1]), "cannot be read from a .bz2 file; expected parquet (.parquet), CSV"),
        ("a.parquet.gz", gzip.compress(CUT[0], mtime=0), "cannot be read from a .gz file"),
        *((f"a.{end}", b"{}", "need a column 'session_id'") for end in ("tsv", "TXT", "json", "jsonl")),
        *((f"a.{end}", b"{}", f".{end} file") for end in ("zip", "md", "orc")),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused_by_name(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    for path in (tmp_path, tmp_path / name):
        error = input_error("events", str(path))
        assert error.startswith(f"{tmp_path / name}: ")
        assert message in error


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([HEADER + ",query"], "the header of events names 'query' twice"),
        ([f"{HEADER}, query "], "the header of events names 'query' twice"),
        (['session_id, "timestamp", "event_type"'], "line 1 of events has a blank before a quote"),
        ([HEADER, f"{START},1,", f'{START},2,"red', f"{START},3,", f"{START},4,"], "line 3 of events has quotes out"),
        ([HEADER, f'{START},"2,', f'{START},"3",'], "line 2 of events has quotes out of place"),
        ([HEADER, f'{START},1,"a \\"b\\" c"'], "line 2 of events has quotes out of place"),
        ([HEADER, f'{START},1,"a" b'], "line 2 of events has quotes out of place"),
        ([HEADER, f'{START},"1', f'{START},", 2",'], "line 2 of events begins a value in quotes that ends on line 3"),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_quotes_out_of_place_are_refused_with_the_line(
    tmp_path: Path, lines: list[str], message: str, name: str
) -> None:
    content = csv(*lines)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert f"{tmp_path / name}: {message}" in input_error("events", str(tmp_path / name))


def test_a_csv_file_that_ends_in_the_middle_of_a_row_is_refused_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(csv(HEADER, f"{START},1,", f"{START},2")[:-1])
    assert f"{path}: line 3 of events is the last, and has 4 of 5 values and no line end" in input_error(
        "events", str(path)
    )
    path.write_bytes(csv(HEADER, f"{START},1,", f"{START},2,")[:-1])
    assert find_sources("events", [str(path)], config().input)


@pytest.mark.parametrize("rows", [1, 100_000])
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_a_byte_that_is_not_utf_8_is_refused_with_its_line_wherever_it_stands(
    tmp_path: Path, name: str, rows: int
) -> None:
    content = csv(HEADER, *[f"{START},1,"] * rows) + csv(f"{START},ä1,", encoding="latin-1") + csv(f"{START},2,")
    (tmp_path / name).write_bytes(gzip.compress(content, 1) if name.endswith(".gz") else content)
    error = input_error("events", str(tmp_path / name))
    assert f"{tmp_path / name}: line {rows + 2} of events is not valid UTF-8 (byte 0xe4)" in error
    assert '[input] encoding = "latin-1"' in error


def test_utf_16_is_refused_with_the_key_to_set(tmp_path: Path) -> None:
    for content in (csv(HEADER, encoding="utf-16"), csv(HEADER, encoding="utf-16-le")):
        (tmp_path / "a.csv").write_bytes(content)
        assert '[input] encoding = "utf-16"' in input_error("events", str(tmp_path / "a.csv"))


def test_an_encoding_that_does_not_exist_is_refused() -> None:
    for name in ("utf-9", "hex"):
        with pytest.raises(ValueError, match=f"{name!r}, which is no text encoding"):
            config(encoding=name)


def test_folders_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "item_id=1" / "item_id=2"
    folder.mkdir(parents=True)
    (folder / "a.csv").write_bytes(csv("session_id,timestamp,event_type", START))
    assert "give the column 'item_id' of events two values, '1' and '2'" in input_error("events", str(tmp_path))


def test_every_folder_of_the_path_counts_so_that_a_path_to_one_partition_says_the_same_as_a_path_to_all(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "ads" / "dt=2026-03-14" / "status=on%20hold" / "countries=__HIVE_DEFAULT_PARTITION__"
    folder.mkdir(parents=True)
    parquet(folder / "a.parquet", [{"ad_id": "a", "item_id": "i", "campaign_id": "c", "version": 1}])
    for path in (tmp_path, folder.parent, folder, folder / "a.parquet"):
        for root in (str(path), path.as_uri()):
            [source] = find_sources("ads", [root], config().input)
            assert source.folders == ({"status": "on hold", "countries": None},)


def test_a_column_of_empty_lists_is_a_column_of_nulls(tmp_path: Path) -> None:
    columns = {"ad_id": ["a"], "item_id": ["i"], "campaign_id": ["c"], "countries": [[]]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    [source] = find_sources("ads", [str(tmp_path)], config().input)
    assert not source.has("countries")


@pytest.mark.parametrize(
    ("table", "column", "values", "key"),
    [
        ("events", "item_id", pa.array([b"1234567890123456"], pa.uuid()), "item_id"),
        ("events", "timestamp", pa.array([1], pa.time64("us")), "timestamp"),
        ("items", "price", pa.array([1], pa.decimal256(50, 0)), "price"),
        ("items", "embedding", pa.array([["a"]]), "embedding"),
        ("items", "map", pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int32())), "features"),
        ("items", "list", pa.array([[1.0]]), "features"),
        ("items", "binary", pa.array([b"a"]), "features"),
        ("items", "duration", pa.array([1], pa.duration("us")), "features"),
    ],
)
def test_a_needed_column_that_cannot_be_read_is_refused_by_file_and_column(
    tmp_path: Path, table: Any, column: str, values: pa.Array, key: str
) -> None:
    columns: dict[str, Any] = file_cases.REQUIRED if table == "events" else {"item_id": ["i"]}
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table(columns | {column: values}), path)
    features = {"features": [column]} if key == "features" else {}
    error = input_error(table, str(path), config(items=features))
    assert error.startswith(f"{path}: ")
    assert repr(column) in error
    assert key in error


def test_a_needed_column_in_a_codec_that_spark_does_not_know_is_refused(tmp_path: Path) -> None:
    codec = {"item_id": "brotli", "session_id": "zstd", "event_type": "zstd", "timestamp": "zstd"}
    (tmp_path / "a.parquet").write_bytes(file_cases.parquet(compression=codec))
    error = input_error("events", str(tmp_path / "a.parquet"))
    assert "a.parquet: column 'item_id' of events is compressed with BROTLI" in error


def test_a_needed_column_that_stands_twice_is_refused_and_any_other_is_passed_over(tmp_path: Path) -> None:
    columns = [*file_cases.REQUIRED.values(), ["x"], ["y"]]
    for name, refused in (("item_id", True), ("other", False)):
        table = pa.table(columns, names=[*file_cases.REQUIRED, name, "other"])
        pq.write_table(table, tmp_path / "a.parquet")
        if refused:
            assert "events have the column 'item_id' twice" in input_error("events", str(tmp_path))
        else:
            assert find_sources("events", [str(tmp_path)], config().input)


def test_linked_folders_are_read_but_a_link_to_a_folder_above_is_not_followed(tmp_path: Path) -> None:
    real = tmp_path / "real"
    (tmp_path / "log" / "2026-03-14").mkdir(parents=True)
    real.mkdir()
    for folder in (real, tmp_path / "log" / "2026-03-14"):
        parquet(folder / "e.parquet", GOOD)
    (tmp_path / "log" / "2026-03-15").symlink_to(real)
    (tmp_path / "log" / "ring").symlink_to(tmp_path / "log")
    [source] = find_sources("events", [str(tmp_path / "log")], config().input)
    assert [Path(file).parent.name for file in source.files] == ["2026-03-14", "2026-03-15"]
