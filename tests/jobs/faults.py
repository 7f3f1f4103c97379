"""Faults for tests of commands: a stage that raises, and a command that is killed at a given point."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from jobs.progress import StageProgress

KILLER = """
import os, signal, sys
from contextlib import contextmanager
from jobs import progress
from jobs.workspace import checkpoints, storage, version_folder

point, arguments = sys.argv[1], sys.argv[2:]

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def die_before_writing(module, is_the_point):
    write_whole = module.write_whole
    def wrapped(path, content):
        if is_the_point(path):
            die()
        return write_whole(path, content)
    module.write_whole = wrapped

def stage_of(stamp):
    return stamp.parent.name.strip(".").rsplit("-", 1)[0]

original = progress.StageProgress.stage

@contextmanager
def stage(self, name):
    if name == point:
        die()
    with original(self, name) as report:
        yield report

progress.StageProgress.stage = stage
die_before_writing(checkpoints, lambda path: point == f"stamp of {stage_of(path)}")
die_before_writing(version_folder, lambda path: point == path.name)
die_before_writing(storage, lambda path: point == path.name)
from jobs.cli.cli import main
sys.exit(main(arguments))
"""


class BrokenStageError(RuntimeError):
    """Raised by a stage that a test breaks."""


@contextmanager
def broken_stage(monkeypatch: pytest.MonkeyPatch, stage: str, error: BaseException | None = None) -> Iterator[None]:
    """Make the stage raise at its beginning while the block runs."""
    original = StageProgress.stage

    @contextmanager
    def broken(self: StageProgress, name: str) -> Iterator[Any]:
        with original(self, name) as report:
            if name == stage:
                raise error or BrokenStageError(stage)
            yield report

    with monkeypatch.context() as patch:
        patch.setattr(StageProgress, "stage", broken)
        yield


def run_until_killed(arguments: Sequence[object], point: str) -> None:
    """Run a `lightsage` command in a process that kills itself with SIGKILL at a given point.

    Args:
        arguments: the arguments of the command.
        point: where the process dies: a stage (at its beginning), "stamp of STAGE" (before the stage's checkpoint is
            complete), or the name of a file of the workspace (before the file is written).
    """
    command = [sys.executable, "-c", KILLER, point, *map(str, arguments)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert process.returncode == -9, process.stderr
