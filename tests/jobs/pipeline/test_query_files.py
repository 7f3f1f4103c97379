"""Files of queries: partition keys, CSV without types, and files whose content does not fit their name."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.errors import TableError
from jobs.pipeline.query_files import stream_table

KNOWN = ("query_id", "item_ids", "at", "country", "query")


def read(path: Path) -> list[dict[str, object]]:
    total, pieces = stream_table(str(path), KNOWN, lists=("item_ids",))
    rows = pa.concat_tables(pieces).to_pylist()
    assert len(rows) == total
    return rows


def write(path: Path, **columns: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"query_id": ["q"], "item_ids": [["a"]]} | columns), path)


def test_partition_keys_are_columns_of_text_and_other_keys_are_passed_over(tmp_path: Path) -> None:
    for country, day in (("DE", 1), ("__HIVE_DEFAULT_PARTITION__", 2)):
        write(tmp_path / f"day=0{day}" / f"country={country}" / "part.parquet")
    (tmp_path / "_SUCCESS").touch()
    assert [row["country"] for row in read(tmp_path)] == ["DE", None]
    assert list(read(tmp_path)[0]) == ["query_id", "item_ids", "country"]


def test_a_column_that_only_a_later_file_has_is_read(tmp_path: Path) -> None:
    write(tmp_path / "1.parquet")
    write(tmp_path / "2.parquet", country=["DE"])
    assert [row["country"] for row in read(tmp_path)] == [None, "DE"]


def test_csv_is_read_as_text_with_lists_as_words_or_json(tmp_path: Path) -> None:
    lines = ["query_id,item_ids,country,at", "007,a|b;c,NULL,20260315", '008,"[""a"", 7]",DE,', "009,,NA, "]
    (tmp_path / "q.CSV").write_text("\n".join(lines))
    first, second, third = read(tmp_path)
    assert first == {"query_id": "007", "item_ids": ["a", "b", "c"], "country": None, "at": "20260315"}
    assert second == {"query_id": "008", "item_ids": ["a", "7"], "country": "DE", "at": None}
    assert third == {"query_id": "009", "item_ids": None, "country": "NA", "at": None}, "NA is Namibia"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("q.parquet", b"query_id,item_ids\n", "not readable as parquet"),
        ("q.parquet", b"", "not readable as parquet"),
        ("q.csv", b'query_id,item_ids\nq,"[1"\n', "not a JSON list"),
        ("q.csv", b"query_id,item_ids\nq,\xff\n", "not readable"),
        ("q.csv", b"", "not readable"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused_by_name(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TableError, match=words) as error:
        read(tmp_path / name)
    assert name in str(error.value)
