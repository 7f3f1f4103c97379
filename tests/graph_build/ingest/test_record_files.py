"""The reader of JSON, nested parquet and CSV dialects: parts of files, both ways to follow a path, both parsers."""

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from graph_build.config import InputConfig
from graph_build.ingest import nested_rows, record_files, record_rows
from graph_build.ingest.compressed import open_bytes
from graph_build.ingest.fields import Fields
from graph_build.ingest.files import Source, find_sources
from graph_build.ingest.record_files import FilePart, parts_of, read_part
from tests.graph_build.conftest import config, input_error
from tests.graph_build.ingest.file_cases import HEADER, csv
from tests.graph_build.ingest.layout_cases import lines, nested, record, zstd

ODD_LINES = [
    *['{"a": 1.0, "b": NaN}', '{"a": 12345678901234567890123456789}', '{"a": 9223372036854775808}', '{"a": 1e30}'],
    *[
        '{"a": "\\ud83d\\ude42"}',
        '{"a": "\\ud800"}',
        '{"a": [1, 2.5, null, "x"]}',
        '{"a": {"b": [true]}}',
        '{"a": -0.0}',
    ],
    *['{"a": "x", "a": "y"}', '{"a": tru}', '{"a": "\t"}', "[]", "null", '{"a": 1}}', "{" * 5000, '{"a": -Infinity}'],
    *['{"a": 0.1, "b": 1e-7}', '{"a": 123456789012345678}', '{"a": 100000000000000000000.0}', '{"a": "é"}', "{}"],
]


def source_of(path: Path, **events: Any) -> Source:
    """Return the one source behind a path."""
    [source] = find_sources("events", [str(path)], config(events=events).input)
    return source


def rows_of_parts(source: Source, parts: list[FilePart]) -> list[dict[str, Any]]:
    assert source.records is not None
    names = [name for name, _ in source.records.types]
    tables = [table for part in parts for table in read_part(part, source.records, names)]
    return [row for table in tables for row in table.to_pylist()]


@pytest.mark.parametrize("name", ["a.json", "a.csv", "b.csv"])
def test_a_file_that_is_read_in_parts_gives_every_row_once_wherever_it_is_cut(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    items = ["1", "", "ä🙂", "x" * 30, '5"']
    if name == "a.json":
        path.write_bytes("\ufeff".encode() + lines(*map(record, items), "", "bad")[:-1])
    else:
        head = [HEADER.replace(",", ";")] if name == "a.csv" else []
        path.write_bytes(csv(*head, *(f"s;2026-03-14;view;{item};q;" for item in items), "s;;view;;")[:-1])
    settings: dict[str, Any] = {} if name == "a.json" else {"separator": ";"}
    if name == "b.csv":
        settings |= {"header": False, "names": HEADER.split(",")}
    source = source_of(path, **settings)
    whole = rows_of_parts(source, [FilePart(str(path))])
    assert len(whole) == len(items) + 1
    assert source.records is not None
    for size in range(1, path.stat().st_size + 2):
        monkeypatch.setattr(record_files, "PART_BYTES", size)
        parts = parts_of(str(path), source.records)
        assert len(parts) == -(-path.stat().st_size // size)
        assert rows_of_parts(source, parts) == whole, size


def test_compressed_files_and_those_with_line_breaks_in_values_are_one_part_and_row_groups_are_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_files, "PART_BYTES", 10)
    (tmp_path / "a.json.zst").write_bytes(zstd(lines(record(1), record(2))))
    (tmp_path / "b.tsv").write_bytes(csv(HEADER.replace(",", "\t"), 's\t2026-03-14\tview\t1\t"two', 'lines"'))
    pq.write_table(pa.Table.from_pylist([{"s": {"id": 1}, **record(n)} for n in range(5)]), tmp_path / "c.parquet", 2)
    for name, n in (("a.json.zst", 1), ("b.tsv", 1), ("c.parquet", 3)):
        source = source_of(tmp_path / name, columns={"session_id": "s.id"} if n == 3 else {})
        assert source.records is not None
        assert len(parts_of(source.files[0], source.records)) == n


def test_both_parsers_of_json_read_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("orjson")
    fields = Fields((("a", ("a",)), ("b", ("b",)), ("a.b", ("a.b",))))
    for line in ODD_LINES:
        fast = record_rows.rows_of_lines([line.encode()], fields, "", 0)
        with monkeypatch.context() as patch:
            patch.setattr(record_rows, "_loads", None)
            assert record_rows.rows_of_lines([line.encode()], fields, "", 0).equals(fast), line
    assert record_rows.rows_of_lines([ODD_LINES[1].encode()], fields, "", 0)["a"].to_pylist() == [
        "12345678901234567890123456789"
    ]


def random_record(rng: random.Random) -> dict[str, Any]:
    def maybe(value: Any) -> Any:
        return None if rng.random() < 0.2 else value

    def item() -> Any:
        return maybe({"id": maybe(f"i{rng.randrange(9)}"), "more": maybe({"n": maybe(rng.randrange(9))})})

    user = maybe({"id": maybe("u"), "geo": maybe({"country": maybe("DE")})})
    return {"user": user, "at": maybe("x"), "items": maybe([item() for _ in range(rng.randrange(4))])}


@pytest.mark.parametrize("explode", ["items", None])
def test_following_columns_gives_what_following_each_record_gives(explode: str | None) -> None:
    rng = random.Random(3)
    inner = ["items.id", "items.more.n"] if explode else []
    paths = ["user.id", "user.geo.country", "at", *inner, "#row", *(["#"] if explode else [])]
    fields = Fields((*((path, (path,)) for path in paths), ("both", ("at", "user.id"))), explode)
    for _ in range(20):
        records = [random_record(rng) for _ in range(rng.randrange(1, 9))] + [FULL]
        table = pa.Table.from_pylist(records)
        assert nested_rows.can_follow(table.schema, fields)
        by_record = record_rows.rows_of_records(records, fields, "p", 5)
        by_column = nested_rows.rows_of_columns(table, fields, "p", 5)
        assert by_column.cast(by_record.schema).to_pylist() == by_record.to_pylist()


FULL = {
    "user": {"id": "u", "geo": {"country": "DE"}},
    "at": "x",
    "items": [{"id": "i", "more": {"n": 1}}],
}


@pytest.mark.parametrize(
    ("content", "events", "message"),
    [
        (b"", {}, "the events file is empty; expected one JSON object per line"),
        (b'[{"session_id": 1},\n{"session_id": 2}]', {}, "holds one JSON array, expected one JSON object per line"),
        (b'{\n"session_id": 1\n}', {}, "cannot be read line by line, expected one JSON object per line"),
        (b"a,b\n1,2", {}, 'is not JSON, expected one JSON object per line; if it is CSV, set format = "csv"'),
        (b"PAR1xxxx", {}, "the events file is parquet"),
        (b"PK\x03\x04xx", {}, "a zip archive"),
        (lines({"visit": 1, "at": {"day": 2}}), {}, "need a column 'session_id'"),
        (lines({"visit": 1, "at": {"day": 2}}), {}, "found the columns visit, at.day"),
        (lines(record({"id": 1})), {}, 'map a value in it: [input.events.columns] item_id = "item_id.id"'),
        (lines(record([1])), {}, 'make a row of each element: [input.events] explode = "item_id"'),
        (lines(record(1, timestamp=1)), {}, 'set [input.events] timestamp_unit to "s", "ms", "us", "ns" or "day"'),
        (lines(record(1)), {"explode": "items"}, "explode names 'items', which no record of events has"),
        (
            lines({"items": [{"id": 1}], **record(1)}),
            {"columns": {"item_id": "items.id"}},
            "the column 'items.id' of events leads into a list; set [input.events] explode",
        ),
    ],
)
def test_json_that_cannot_be_read_is_refused_with_what_to_write(
    tmp_path: Path, content: bytes, events: dict[str, Any], message: str
) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    error = input_error("events", str(path), config(events=events))
    assert all(line.startswith(f"{path}: ") for line in error.splitlines())
    assert message in error


@pytest.mark.parametrize(
    ("lines_of_file", "events", "message"),
    [
        (["session_id;item_id"], {}, "if ';' stands between the values, set [input.events] separator = \";\""),
        (["session_id\titem_id"], {}, 'set [input.events] separator = "\\t"'),
        (["a,b,c"], {"header": False, "names": ["a", "b"]}, "has 3 values, but [input.events] names lists 2"),
        (["a,b"], {"names": ["a", "b", "c"]}, "has 2 values, but [input.events] names lists 3"),
        (['s;"view'], {"separator": ";", "header": False, "names": ["a", "b"]}, 'set quote = ""'),
        (["session_id,items"], {"explode": "item"}, "explode names 'item', which is not among the columns session_id"),
    ],
)
def test_csv_of_another_dialect_is_refused_with_what_to_write(
    tmp_path: Path, lines_of_file: list[str], events: dict[str, Any], message: str
) -> None:
    (tmp_path / "a.csv").write_bytes(csv(*lines_of_file))
    assert message in input_error("events", str(tmp_path / "a.csv"), config(events=events))


def test_a_path_into_a_list_of_parquet_is_refused_with_the_list_to_explode(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(nested([record(None, items=[{"id": 1}])]))
    error = input_error("events", str(tmp_path), config(events={"columns": {"item_id": "items.id"}}))
    assert "leads into the list 'items'; set [input.events] explode = \"items\"" in error


def test_a_compressed_file_that_is_cut_off_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.json.zst").write_bytes(zstd(lines(*map(record, range(5000))))[:-200])
    error = input_error("events", str(tmp_path))
    assert error.startswith(f"{tmp_path / 'a.json.zst'}: events cannot be read as JSON (")


def test_a_pattern_names_files_unless_a_file_has_its_name(tmp_path: Path) -> None:
    for name in ("2026-03-01/a.json", "2026-03-02/a.json", "2026-03-02/b.csv", "[x].json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(lines(record(name)))
    files = [Path(file).relative_to(tmp_path).as_posix() for file in source_of(tmp_path / "2026-*" / "*.json").files]
    assert files == ["2026-03-01/a.json", "2026-03-02/a.json"]
    assert len(source_of(tmp_path / "2026-03-0[12]" / "**", format="json").files) == 3
    assert source_of(tmp_path / "[x].json").files == (str(tmp_path / "[x].json"),)
    assert "no file or folder of events matches the pattern" in input_error("events", str(tmp_path / "2027-*"))


def test_zstd_is_read_to_its_end_over_several_frames(tmp_path: Path) -> None:
    (tmp_path / "a.zst").write_bytes(zstd(b"one\n" * 100_000) + zstd(b"two\n"))
    with open_bytes(str(tmp_path / "a.zst")) as opened:
        assert sum(1 for _ in opened) == 100_001


def test_columns_that_only_later_lines_have_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(lines(*map(record, range(3000)), record(1, ad_id="x")))
    source = source_of(tmp_path / "a.json")
    assert source.has("ad_id")
    assert not source.has("user_id")


def test_the_configuration_of_a_table_names_only_columns_of_the_contract(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(csv(HEADER))
    settings = InputConfig.model_validate({"events": {"constants": {"kind": "view"}}})
    with pytest.raises(ValueError, match=r"\[input.events.constants\] names 'kind', which is not a column of events"):
        find_sources("events", [str(tmp_path)], settings)
