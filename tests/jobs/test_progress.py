"""Long work says how it goes, and what each stage cost."""

import io
import logging
import subprocess
import sys
import time

import pytest
from rich.console import Console

from jobs import progress
from jobs.progress import StageProgress


def plain() -> StageProgress:
    return StageProgress(Console(file=io.StringIO(), force_terminal=False))


def test_elsewhere_than_on_a_terminal_a_stage_is_two_lines(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), plain().stage("graph") as report:
        for i in range(1_000):
            report("counting", i / 1_000)
    assert [line.partition(" in ")[0] for line in caplog.messages] == ["graph: started", "graph: done"]


def test_a_long_stage_says_at_times_how_far_it_is(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10_000, 2))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    with caplog.at_level(logging.INFO), plain()._lines("train") as report:
        for i in range(100):
            report("step", i / 100)
    assert caplog.messages[1] == "train:  10 % step"
    assert 8 <= len(caplog.messages) <= 12


def test_on_a_terminal_the_stage_and_its_cost_are_shown() -> None:
    shown = io.StringIO()
    with StageProgress(Console(file=shown, force_terminal=True, width=100)).stage("index") as report:
        report("adding vectors", 0.5)
    assert "index" in shown.getvalue()
    assert "done in" in shown.getvalue()


def test_each_stage_is_kept_with_its_time_and_memory() -> None:
    stages = plain()
    with stages.stage("one"):
        time.sleep(0.05)
    with stages.stage("two"):
        pass
    assert [record.name for record in stages.records] == ["one", "two"]
    assert stages.records[0].seconds >= 0.05
    assert stages.records[0].peak_bytes > 10 * 2**20


def test_a_stage_that_fails_is_not_kept(caplog: pytest.LogCaptureFixture) -> None:
    stages = plain()
    with caplog.at_level(logging.INFO), pytest.raises(ZeroDivisionError), stages.stage("one"):
        raise ZeroDivisionError
    assert stages.records == ()
    assert not any("done" in line for line in caplog.messages)


@pytest.mark.skipif(progress.psutil is None, reason="psutil is what sees children")
def test_the_memory_of_children_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SAMPLE_SECONDS", 0.02)
    stages = plain()
    with stages.stage("alone"):
        pass
    with stages.stage("with a child"):
        hold = "import time; x = bytearray(200 * 2**20); time.sleep(0.5)"
        subprocess.run([sys.executable, "-c", hold], check=True)
    alone, with_child = (record.peak_bytes for record in stages.records)
    assert with_child > alone + 180 * 2**20
