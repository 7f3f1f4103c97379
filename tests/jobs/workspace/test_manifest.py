"""The fingerprint changes exactly if the inputs, the configuration or the code change."""

import os
import shutil
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import InputNotFoundError, StoreError
from jobs.workspace.manifest import ROOMS, code_version, describe_inputs, fingerprint, version_name
from tests.source_tree import ROOT


@pytest.fixture
def log(tmp_path: Path) -> Path:
    folder = tmp_path / "log"
    for day in ("2026-03-01", "2026-03-02"):
        (folder / f"date={day}").mkdir(parents=True)
        (folder / f"date={day}" / "part-0.parquet").write_text(day)
    return folder


def fingerprint_of(path: Path | str, **config: int) -> str:
    return fingerprint(describe_inputs({"events": [str(path)]}), config, "code")


def test_modification_time_and_location_do_not_change_the_fingerprint(log: Path, tmp_path: Path) -> None:
    before = fingerprint_of(log)
    os.utime(log / "date=2026-03-01" / "part-0.parquet", (0, 0))
    assert fingerprint_of(log) == before
    log.rename(tmp_path / "elsewhere")
    assert fingerprint_of(tmp_path / "elsewhere") == before


@pytest.mark.parametrize("change", ["content", "name", "one more", "one less"])
def test_any_change_to_a_folder_changes_the_fingerprint(log: Path, change: str) -> None:
    before = fingerprint_of(log)
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
    assert fingerprint_of(log) != before


def test_files_that_spark_does_not_read_do_not_change_the_fingerprint(log: Path) -> None:
    before = fingerprint_of(log)
    (log / "_SUCCESS").write_text("")
    (log / "date=2026-03-01" / ".part-0.parquet.crc").write_text("x")
    (log / "_temporary").mkdir()
    (log / "_temporary" / "part").write_text("x")
    assert fingerprint_of(log) == before


def test_a_linked_folder_changes_the_fingerprint(log: Path, tmp_path: Path) -> None:
    before = fingerprint_of(log)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "more.parquet").write_bytes(b"more")
    (log / "linked").symlink_to(tmp_path / "elsewhere")
    assert fingerprint_of(log) != before


def test_role_configuration_and_code_change_the_fingerprint(log: Path) -> None:
    inputs = describe_inputs({"events": [str(log)]})
    fingerprints = {
        fingerprint(inputs, {"a": 1}, "code"),
        fingerprint(inputs, {"a": 2}, "code"),
        fingerprint(inputs, {"a": 1}, "other"),
        fingerprint({"items": inputs["events"]}, {"a": 1}, "code"),
    }
    assert len(fingerprints) == 4


@given(st.dictionaries(st.text(), st.integers() | st.dictionaries(st.text(), st.integers())))
def test_the_order_of_keys_does_not_change_the_fingerprint(config: dict[str, object]) -> None:
    reordered = dict(reversed(config.items()))
    assert fingerprint({}, config, "code") == fingerprint({}, reordered, "code")


@pytest.mark.parametrize("name", ["absent.parquet", "empty"])
def test_an_input_without_files_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputNotFoundError, match=rf"items: .*{name}"):
        describe_inputs({"items": [str(tmp_path / name)]})


def test_a_remote_object_changes_the_fingerprint_when_its_content_changes() -> None:
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/fingerprint/events.parquet", b"one")
    before = fingerprint_of("memory://fingerprint/events.parquet")
    assert fingerprint_of("memory://fingerprint/events.parquet") == before
    fs.pipe_file("/fingerprint/events.parquet", b"three")
    assert fingerprint_of("memory://fingerprint/events.parquet") != before


@pytest.fixture
def rooms(tmp_path: Path) -> dict[str, Path]:
    """Return the folder of each of the four packages; each has a subpackage with code and a template."""
    folders = {room: tmp_path / "site-packages" / room for room in ROOMS}
    for folder in folders.values():
        (folder / "wing" / "page").mkdir(parents=True)
        (folder / "wing" / "code.py").write_text("x = 1\n")
        (folder / "wing" / "page" / "report.html").write_text("<p>{{ x }}</p>")
    return folders


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("name", ["wing/code.py", "wing/page/report.html", "wing/page/new.css", "settings.toml"])
def test_any_changed_file_of_any_wing_changes_the_code_version(rooms: dict[str, Path], room: str, name: str) -> None:
    before = code_version(rooms)
    (rooms[room] / name).write_text("changed")
    assert code_version(rooms) != before


def test_compiled_files_and_the_location_of_the_rooms_do_not_change_the_code_version(
    rooms: dict[str, Path], tmp_path: Path
) -> None:
    before = code_version(rooms)
    (rooms["model"] / "wing" / "__pycache__").mkdir()
    (rooms["model"] / "wing" / "__pycache__" / "code.cpython-312.pyc").write_text("compiled")
    (rooms["model"] / "code.pyc").write_text("compiled")
    assert code_version(rooms) == before
    moved = (tmp_path / "site-packages").rename(tmp_path / "elsewhere")
    assert code_version({room: moved / room for room in ROOMS}) == before


@pytest.mark.parametrize("folder", ["empty", "missing"])
def test_a_room_without_code_is_an_error(rooms: dict[str, Path], folder: str) -> None:
    shutil.rmtree(rooms["retrieval"])
    if folder == "empty":
        rooms["retrieval"].mkdir()
    with pytest.raises(StoreError, match=r"retrieval was expected in .*site-packages/retrieval, which has no files"):
        code_version(rooms)


def test_the_code_version_covers_the_rooms_that_are_installed(tmp_path: Path) -> None:
    assert len(code_version()) == 16
    assert code_version() == code_version({room: ROOT / room for room in ROOMS})
    copies = {room: Path(shutil.copytree(ROOT / room, tmp_path / room)) for room in ROOMS}
    assert code_version(copies) == code_version()
    wing = copies["graph_build"] / "edges" / "swing.py"
    wing.write_text(wing.read_text() + "\n")
    assert code_version(copies) != code_version()


def test_a_version_is_named_by_utc_time_and_fingerprint() -> None:
    at = datetime(2014, 9, 29, 1, 59, 59, tzinfo=timezone(timedelta(hours=2)))
    assert version_name(at, "1f0c2a9b" + "0" * 24) == "20140928T235959-1f0c2a9b"
    assert version_name(at.astimezone(UTC), "1f0c2a9bff") == "20140928T235959-1f0c2a9b"
    with pytest.raises(ValueError, match="time zone"):
        version_name(datetime(2014, 9, 29), "1f0c2a9b")


def test_a_folder_is_walked_as_the_graph_build_walks_it(tmp_path: Path) -> None:
    """`jobs.workspace` does not import `graph_build`, so the walk exists twice; both must find the same files."""
    from graph_build.ingest.files import files_of

    log, elsewhere = tmp_path / "log", tmp_path / "elsewhere"
    names = ["b/2.csv", "a/1.parquet", "a b.csv", "_hidden/3.csv", "a/.4.csv", "c/_5.csv", "ä.csv", "_k=v/7.csv"]
    for file in [*(log / name for name in names), elsewhere / "deep" / "6.csv"]:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(file.name)
    (log / "linked").symlink_to(elsewhere)
    (log / "ring").symlink_to(log)
    (log / "link.csv").symlink_to(elsewhere / "deep" / "6.csv")
    (log / "nowhere.csv").symlink_to(tmp_path / "nowhere")
    walked = [Path(file).relative_to(log).as_posix() for file in files_of("events", str(log))]
    described = [file.name for file in describe_inputs({"events": [str(log)]})["events"]]
    assert sorted(described) == sorted(walked)
    assert set(walked) == {"a b.csv", "a/1.parquet", "b/2.csv", "linked/deep/6.csv", "link.csv", "ä.csv", "_k=v/7.csv"}


def test_a_pattern_describes_the_files_that_it_matches_with_the_names_of_their_folders(tmp_path: Path) -> None:
    for name in ("log/dt=1/a.json", "log/dt=2/a.json", "log/dt=2/_b.json", "log/[x].json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)

    def names(path: str) -> list[str]:
        return [file.name for file in describe_inputs({"events": [str(tmp_path / path)]})["events"]]

    assert names("log/dt=*") == ["dt=1/a.json", "dt=2/a.json"]
    assert names("l*/dt=2/*.json") == ["log/dt=2/a.json"]
    assert names("log/[x].json") == [""]


def test_the_log_of_a_delta_table_is_described_and_a_table_of_spark_always_counts_as_changed(tmp_path: Path) -> None:
    (tmp_path / "_delta_log").mkdir()
    (tmp_path / "_delta_log" / "0.json").write_text("{}")
    (tmp_path / "a.parquet").touch()
    delta = describe_inputs({"events": [str(tmp_path)]})["events"]
    assert [file.name for file in delta] == ["_delta_log/0.json", "a.parquet"]
    spark = [describe_inputs({"events": ["table:shop.log"]})["events"] for _ in range(2)]
    assert spark[0] != spark[1]
