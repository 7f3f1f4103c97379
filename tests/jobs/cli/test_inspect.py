"""`lightsage inspect` and the check of the input before Spark starts, as a user sees them on the command line."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.cli.cli import main
from tests.graph_build.inspection.logs import millis, plain_log, seven_faults, write_rows


def test_what_inspect_writes_is_what_the_next_command_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, config = seven_faults(tmp_path / "log.csv", 3000), tmp_path / "lightsage.toml"
    assert main(["inspect", str(log), "--write", str(config)]) == 0
    text = capsys.readouterr().out
    assert f"next     lightsage run --events {log} --config {config} --workspace workspace" in text
    settings = tomllib.loads(config.read_text())
    assert settings["input"]["encoding"] == "cp1252"
    assert settings["input"]["events"]["types"] == {"detail": "view", "zzz": "ignore"}
    assert 'item_id = "sku" # e.g. p' in config.read_text()
    dry = ["run", "--dry-run", "--events", str(log), "--workspace", str(tmp_path / "ws")]
    assert main([*dry, "--config", str(config)]) == 0
    assert "can be read, with 3 warnings; nothing was built" in capsys.readouterr().out
    assert main(dry) == 2
    assert not (tmp_path / "ws").exists()


def test_inspect_does_not_write_over_a_file(tmp_path: Path, refused: Callable[..., str]) -> None:
    config = tmp_path / "mine.toml"
    config.write_text("")
    assert "exists; delete it" in refused("inspect", plain_log(tmp_path / "log.csv", 9), "--write", config)


def test_inspect_says_that_a_path_is_missing_or_holds_no_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], refused: Callable[..., str]
) -> None:
    assert "got no path" in refused("inspect")
    assert main(["inspect", str(tmp_path / "nowhere")]) == 2
    assert "does not exist" in capsys.readouterr().out
    other = write_rows(tmp_path / "prices.csv", 9, lambda n: [n, n * 2], "quantity,amount")
    main(["inspect", str(other)])
    assert "this is none of events, items and ads" in capsys.readouterr().out


def test_the_text_for_a_terminal_is_aligned_and_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(plain_log(tmp_path / "log.csv"))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("events  ")
    table = [line for line in lines if "read as" in line or "session_id" in line or "event_type  " in line]
    assert len({line.index("  ", 4) for line in table}) >= 1
    assert lines[-1].startswith("next     lightsage run --events ")
    assert len(lines) < 25


def test_inspect_prints_json_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--json", str(plain_log(tmp_path / "log.csv"))]) == 0
    found = json.loads(capsys.readouterr().out)
    (table,) = found["tables"]
    assert (table["table"], table["n_rows"], table["counts"]) == ("events", 3000, {"sessions": 750, "items": 80})
    assert table["layout"]["separator"] == ","


def test_recipes_are_listed_with_the_files_that_they_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--recipes"]) == 0
    text = capsys.readouterr().out
    assert "rees46        REES46: views, carts and purchases" in text
    assert "--events transactions_train.csv; --items articles.csv" in text


@pytest.mark.parametrize("command", ["run", "ingest", "nightly"])
def test_all_faults_are_told_before_spark_starts(
    command: str, tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_spark(**_: object) -> None:
        raise AssertionError("Spark was started")

    monkeypatch.setattr("graph_build.spark.session.session_for_one_build", no_spark)
    log = write_rows(
        tmp_path / "log.csv", 1200, lambda n: [f"s{n // 3}", millis(n), f"p{n % 9}"], "session_id,ts,product"
    )
    date = ["--date", "2026-03-02"] if command == "nightly" else []
    message = refused(command, "--events", log, *date, "--workspace", tmp_path / "ws")
    assert message.startswith("the input has 4 faults; `lightsage inspect` writes the lines:\n")
    for line in ('timestamp = "ts"', 'timestamp_unit = "ms"', 'item_id = "product"', 'event_type = "view"'):
        assert line in message


def test_a_dry_run_of_evaluate_checks_the_events_alone(
    shop, tmp_path: Path, refused: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", "--workspace", shop.workspace, "--dry-run", "--events"]
    assert main([*map(str, arguments), str(shop.files.test_events)]) == 0
    assert "nothing was built (--dry-run)" in capsys.readouterr().out
    log = write_rows(tmp_path / "log.csv", 9, lambda n: [f"s{n}", "view"], "session_id,event_type")
    assert "need a column 'item_id'" in refused(*arguments, log)
