"""The layout of a file is recognised by its bytes, whatever its name says."""

import gzip
import json
from pathlib import Path

import pytest

from graph_build.errors import GraphInputError
from graph_build.inspection.layout import Layout, sniff

ROWS = [
    ("visit", "when", "item", "note"),
    *((f"v{n // 3}", f"2026-03-02T09:{n:02d}:00Z", f"p{n}", "x") for n in range(30)),
]


def text(separator: str, rows: list[tuple[str, ...]] = ROWS) -> str:
    return "".join(separator.join(row) + "\n" for row in rows)


def written(tmp_path: Path, content: str | bytes, name: str = "log.csv") -> Layout:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return sniff(str(path))


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", "::", "\x01", "^"])
def test_the_separator_is_that_by_which_all_lines_have_the_same_number_of_values(
    tmp_path: Path, separator: str
) -> None:
    layout = written(tmp_path, text(separator))
    assert (layout.separator, layout.names) == (separator, ROWS[0])


def test_commas_inside_of_values_do_not_make_a_separator(tmp_path: Path) -> None:
    rows = [("itemId", "price", "tokens"), *((str(n), "1", f"{n},776,{n}") for n in range(20))]
    assert written(tmp_path, text(";", rows)).separator == ";"
    quoted = [("a", "b"), *((f'"{n};{n}"', "1") for n in range(20))]
    assert written(tmp_path, text(",", quoted)).separator == ","


@pytest.mark.parametrize(
    ("rows", "header"),
    [
        (ROWS, True),
        (ROWS[1:], False),
        ([("1", "2014-04-07T10:51:09.277Z", "214536502", "0")] * 9, False),
        ([("u", "v"), ("p", "q"), ("p", "q")], True),
        ([("p", "q"), ("p", "q"), ("p", "r")], False),
        ([("", "session_id"), ("0", "a"), ("1", "b")], True),
    ],
)
def test_a_header_is_a_line_of_names(tmp_path: Path, rows: list[tuple[str, ...]], header: bool) -> None:
    assert written(tmp_path, text(",", rows)).header is header


@pytest.mark.parametrize(
    ("encoding", "told"),
    [("utf-8", "utf-8"), ("utf-8-sig", "utf-8-sig"), ("cp1252", "cp1252"), ("utf-16", "utf-16"), ("ascii", "utf-8")],
)
def test_the_encoding_is_told_by_the_bytes(tmp_path: Path, encoding: str, told: str) -> None:
    word = "x" if encoding == "ascii" else "Käse"
    assert written(tmp_path, text(",").replace("x", word).encode(encoding)).encoding == told


def test_formats_and_compression_are_told_by_the_bytes(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"a": n}) + "\n" for n in range(9))
    assert written(tmp_path, lines, "x.csv").format == "json"
    packed = written(tmp_path, gzip.compress(lines.encode()), "x")
    assert (packed.format, packed.compression) == ("json", "gzip")
    line = '192.0.2.1 - - [02/Mar/2026:09:05:07 +0100] "GET / HTTP/1.1" 200 5 "-" "x"\n'
    assert written(tmp_path, line * 5, "access.log").format == "weblog"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\n\n", "the file is empty"),
        (b"PK\x03\x04....", "a zip archive or a spreadsheet"),
        (b'[{"a": 1}, {"a": 2}]', "not one object a line; write it so: jq -c '.[]'"),
        (b'{\n  "a": 1\n}\n', "not one object a line; write it so: jq -c ."),
        (gzip.compress(b"a,b\n1,2\n", mtime=0)[:-9], "damaged or cut off"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_way_out(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(GraphInputError, match=r"log\.csv: ") as caught:
        written(tmp_path, content)
    assert message in str(caught.value)


def test_a_decimal_comma_needs_another_separator(tmp_path: Path) -> None:
    rows = [("item", "price"), *((f"p{n}", f"{n},50") for n in range(20))]
    assert written(tmp_path, text(";", rows)).decimal == ","
    assert written(tmp_path, text(",", [("item", "a"), ("p", "1.5")])).decimal == "."


@pytest.mark.parametrize("name", ["ORCID", "BZh", "SQLite", "ARROW1", "Objects", "PKs", "7z"])
def test_a_header_may_begin_like_a_file_of_another_kind(tmp_path: Path, name: str) -> None:
    assert written(tmp_path, f"{name},item_id\n1,2\n3,4\n").names == (name, "item_id")
