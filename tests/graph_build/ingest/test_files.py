"""Files that are missing or cannot be read are refused by name, and linked folders are read once."""

from pathlib import Path

from graph_build.ingest.files import local_sources
from tests.graph_build.conftest import GOOD, config, input_error, parquet


def test_a_missing_file_is_named_in_the_error(tmp_path: Path) -> None:
    assert "nowhere.parquet: the events file or folder does not exist" in input_error(
        "events", str(tmp_path / "nowhere.parquet")
    )


def test_a_file_that_is_not_parquet_is_named_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "events.parquet").write_text("hello")
    assert "events.parquet" in input_error("events", str(tmp_path / "events.parquet"))
    assert "not a parquet file" in input_error("events", str(tmp_path))


def test_an_empty_folder_and_an_empty_csv_file_are_refused(tmp_path: Path) -> None:
    assert "holds no file" in input_error("events", str(tmp_path))
    (tmp_path / "e.csv").write_text("")
    assert "header" in input_error("events", str(tmp_path / "e.csv"))


def test_a_header_that_names_a_column_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.csv"
    path.write_text("session_id,timestamp,event_type,item_id,note,note\n")
    assert "twice.csv: the header of events names 'note' twice" in input_error("events", str(path))


def test_linked_folders_are_read_but_a_link_to_a_folder_above_is_not_followed(tmp_path: Path) -> None:
    real = tmp_path / "real"
    (tmp_path / "log" / "2026-03-14").mkdir(parents=True)
    real.mkdir()
    for folder in (real, tmp_path / "log" / "2026-03-14"):
        parquet(folder / "e.parquet", GOOD)
    (tmp_path / "log" / "2026-03-15").symlink_to(real)
    (tmp_path / "log" / "ring").symlink_to(tmp_path / "log")
    [source] = local_sources("events", [str(tmp_path / "log")], config().input)
    assert [Path(file).parent.name for file in source.files] == ["2026-03-14", "2026-03-15"]
