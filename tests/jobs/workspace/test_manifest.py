"""The fingerprint changes exactly when inputs, configuration or code do."""

import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.workspace.workspace import InputNotFoundError, code_version, describe_inputs, fingerprint, version_name


@pytest.fixture
def log(tmp_path: Path) -> Path:
    folder = tmp_path / "log"
    for day in ("2026-03-01", "2026-03-02"):
        (folder / f"date={day}").mkdir(parents=True)
        (folder / f"date={day}" / "part-0.parquet").write_text(day)
    return folder


def of(path: Path | str, **config: int) -> str:
    return fingerprint(describe_inputs({"events": [str(path)]}), config, "code")


def test_content_counts_and_neither_time_nor_place_does(log: Path, tmp_path: Path) -> None:
    before = of(log)
    os.utime(log / "date=2026-03-01" / "part-0.parquet", (0, 0))
    assert of(log) == before
    log.rename(tmp_path / "elsewhere")
    assert of(tmp_path / "elsewhere") == before


@pytest.mark.parametrize("change", ["content", "name", "one more", "one less"])
def test_any_change_to_a_folder_changes_the_fingerprint(log: Path, change: str) -> None:
    before = of(log)
    part = log / "date=2026-03-01" / "part-0.parquet"
    match change:
        case "content":
            part.write_text("2026-03-09")
        case "name":
            part.parent.rename(log / "date=2026-03-03")
        case "one more":
            (log / "date=2026-03-01" / "part-1.parquet").write_text("")
        case "one less":
            part.unlink()
    assert of(log) != before


def test_what_spark_does_not_read_does_not_count(log: Path) -> None:
    before = of(log)
    (log / "_SUCCESS").write_text("")
    (log / "date=2026-03-01" / ".part-0.parquet.crc").write_text("x")
    (log / "_temporary").mkdir()
    (log / "_temporary" / "part").write_text("x")
    assert of(log) == before


def test_a_linked_folder_counts(log: Path, tmp_path: Path) -> None:
    before = of(log)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "more.parquet").write_bytes(b"more")
    (log / "linked").symlink_to(tmp_path / "elsewhere")
    assert of(log) != before


def test_role_config_and_code_count(log: Path) -> None:
    inputs = describe_inputs({"events": [str(log)]})
    prints = {
        fingerprint(inputs, {"a": 1}, "code"),
        fingerprint(inputs, {"a": 2}, "code"),
        fingerprint(inputs, {"a": 1}, "other"),
        fingerprint({"items": inputs["events"]}, {"a": 1}, "code"),
    }
    assert len(prints) == 4


@given(st.dictionaries(st.text(), st.integers() | st.dictionaries(st.text(), st.integers())))
def test_the_order_of_keys_does_not_count(config: dict[str, object]) -> None:
    turned = dict(reversed(config.items()))
    assert fingerprint({}, config, "code") == fingerprint({}, turned, "code")


@pytest.mark.parametrize("name", ["absent.parquet", "empty"])
def test_an_input_without_a_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputNotFoundError, match=rf"items: .*{name}"):
        describe_inputs({"items": [str(tmp_path / name)]})


def test_an_object_elsewhere_counts_by_what_its_file_system_tells() -> None:
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/fingerprint/events.parquet", b"one")
    before = of("memory://fingerprint/events.parquet")
    assert of("memory://fingerprint/events.parquet") == before
    fs.pipe_file("/fingerprint/events.parquet", b"three")
    assert of("memory://fingerprint/events.parquet") != before


def test_changed_code_changes_the_code_version(tmp_path: Path) -> None:
    (tmp_path / "model" / "deep").mkdir(parents=True)
    source = tmp_path / "model" / "deep" / "network.py"
    source.write_text("x = 1\n")
    before = code_version(tmp_path)
    (tmp_path / "model" / "notes.txt").write_text("not code")
    assert code_version(tmp_path) == before
    source.write_text("x = 2\n")
    assert code_version(tmp_path) != before
    assert len(code_version()) == 16


def test_a_version_is_named_by_utc_time_and_fingerprint() -> None:
    at = datetime(2014, 9, 29, 1, 59, 59, tzinfo=timezone(timedelta(hours=2)))
    assert version_name(at, "1f0c2a9b" + "0" * 24) == "20140928T235959-1f0c2a9b"
    assert version_name(at.astimezone(UTC), "1f0c2a9bff") == "20140928T235959-1f0c2a9b"
    with pytest.raises(ValueError, match="time zone"):
        version_name(datetime(2014, 9, 29), "1f0c2a9b")
