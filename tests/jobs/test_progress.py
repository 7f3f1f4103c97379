"""Stages show their progress, and record their time and memory."""

import io
import logging
import subprocess
import sys
import time

import pytest
from rich.console import Console

from jobs import progress
from jobs.progress import StageProgress, portion


def without_terminal() -> StageProgress:
    return StageProgress(Console(file=io.StringIO(), force_terminal=False))


def test_a_short_stage_logs_two_lines_without_a_terminal(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), without_terminal().stage("graph") as report:
        for i in range(1_000):
            report("counting", i / 1_000)
    assert [line.partition(" in ")[0] for line in caplog.messages] == ["graph: started", "graph: done"]


def test_a_long_stage_logs_its_progress_now_and_then(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10_000, 2))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    with caplog.at_level(logging.INFO), without_terminal()._lines("train") as report:
        for i in range(100):
            report("step", i / 100)
    assert caplog.messages[1] == "train:  10 % step"
    assert 8 <= len(caplog.messages) <= 12


def test_a_terminal_shows_the_stage_and_its_time() -> None:
    terminal = io.StringIO()
    with StageProgress(Console(file=terminal, force_terminal=True, width=100)).stage("index") as report:
        report("adding vectors", 0.5)
    assert "index" in terminal.getvalue()
    assert "done in" in terminal.getvalue()


def test_every_stage_is_recorded_with_its_time_and_memory() -> None:
    stages = without_terminal()
    with stages.stage("one"):
        time.sleep(0.05)
    with stages.stage("two"):
        pass
    assert [record.name for record in stages.records] == ["one", "two"]
    assert stages.records[0].seconds >= 0.05
    assert stages.records[0].peak_bytes > 10 * 2**20


def test_a_stage_that_fails_is_not_recorded(caplog: pytest.LogCaptureFixture) -> None:
    stages = without_terminal()
    with caplog.at_level(logging.INFO), pytest.raises(ZeroDivisionError), stages.stage("one"):
        raise ZeroDivisionError
    assert stages.records == ()
    assert not any("done" in line for line in caplog.messages)


def test_the_progress_of_a_part_is_mapped_to_its_portion_of_the_stage() -> None:
    calls: list[tuple[str, float]] = []
    report = portion(lambda message, share: calls.append((message, share)), 0.25, 0.75)
    for share in (0.0, 0.5, 1.0):
        report("training", share)
    assert calls == [("training", 0.25), ("training", 0.5), ("training", 0.75)]


@pytest.mark.skipif(progress.psutil is None, reason="measuring the memory of child processes needs psutil")
def test_the_peak_memory_includes_child_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SAMPLE_SECONDS", 0.02)
    monkeypatch.setattr(progress, "GROWTH", 1.0)
    stages = without_terminal()
    with stages.stage("without a child"):
        pass
    with stages.stage("with a child"):
        code = "import time; x = bytearray(200 * 2**20); time.sleep(0.5)"
        subprocess.run([sys.executable, "-c", code], check=True)
    without_child, with_child = (record.peak_bytes for record in stages.records)
    assert with_child > without_child + 180 * 2**20


def test_memory_is_measured_page_by_page_only_when_it_has_grown(monkeypatch: pytest.MonkeyPatch) -> None:
    resident = iter([100, 101, 90, 106, 107, 112])
    proportional = iter([60, 80, 70])
    monkeypatch.setattr(progress, "SAMPLE_SECONDS", 60.0)
    monkeypatch.setattr(progress, "resident_bytes", lambda pid: next(resident))
    monkeypatch.setattr(progress, "memory_bytes", lambda pid: next(proportional))
    with progress._PeakMemory() as memory:
        for peak in (60, 60, 80, 80):
            memory._measure()
            assert memory.peak_bytes == peak
    assert memory.peak_bytes == 80
    assert list(proportional) == []
