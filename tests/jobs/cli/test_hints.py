"""Hints can be run as they are in the user's current folder, and `--version` says which release runs."""

import re
import sys
from pathlib import Path

import pytest

from jobs.cli import hints
from jobs.cli.cli import main


def test_a_program_on_the_path_is_called_by_its_name_and_any_other_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "env" / "bin" / "lightsage"
    script.parent.mkdir(parents=True)
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(script)])
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.chdir(tmp_path)
    assert hints.program() == str(Path("env/bin/lightsage"))
    monkeypatch.setenv("PATH", str(script.parent))
    assert hints.program() == "lightsage"
    monkeypatch.setattr(sys, "argv", ["/usr/bin/pytest"])
    assert hints.program() == "lightsage"


def test_paths_work_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a")
    assert hints.shortest(Path("b") / "c") == str(Path("b/c"))
    assert hints.shortest(tmp_path / "a" / "b") == "b"
    page = hints.document("docs/glossary.md")
    assert page == "docs/glossary.md" or Path(page).exists()


def test_version_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert re.fullmatch(r"lightsage \S+.*, Python 3\.\d+\.\d+\S*\n", capsys.readouterr().out)
