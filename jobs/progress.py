"""Progress of long commands: a bar on a terminal or log lines elsewhere, and the time and memory of each stage.

A command runs each stage inside `StageProgress.stage`, which yields a callback. The command passes this callback to the
function that does the work.
"""

import contextlib
import logging
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

try:
    import psutil
except ImportError:  # psutil is an optional extra; without it, the memory of child processes is not measured
    psutil = None

logger = logging.getLogger(__name__)

ProgressCallback = Callable[[str, float], None]
"""A function that takes a message and the share of the work that is done, from 0 to 1."""

# A stage logs its progress after LINE_SECONDS if LINE_SHARE more of the work is done, else after SILENCE_SECONDS.
LINE_SECONDS = 5.0
LINE_SHARE = 0.1
SILENCE_SECONDS = 60.0
SAMPLE_SECONDS = 0.25  # between two measurements of the memory
GROWTH = 1.02  # see `_PeakMemory`; the measured peak is right within about 2%


class StageRecord(BaseModel):
    """The cost of one stage: wall time in seconds, and the peak memory of all its processes together, in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    seconds: float
    peak_bytes: int


class StageProgress:
    """Shows the progress of one command's stages, and records the time and memory of each stage.

    On a terminal, each stage is shown as a bar. Elsewhere, its start and end are logged, with a few lines in between.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stderr)
        self._records: list[StageRecord] = []

    @property
    def records(self) -> tuple[StageRecord, ...]:
        """The stages that ended without an error, in the order in which they ended."""
        return tuple(self._records)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[ProgressCallback]:
        """Measure and show the stage that runs in the block, and yield the callback that takes the stage's progress."""
        start = time.monotonic()
        show = self._bar(name) if self._console.is_terminal else self._lines(name)
        with _PeakMemory() as memory, show as report:
            yield report
        record = StageRecord(name=name, seconds=round(time.monotonic() - start, 3), peak_bytes=memory.peak_bytes)
        self._records.append(record)
        done = f"{name}: done in {record.seconds:.1f} s, {record.peak_bytes / 2**30:.1f} GiB at most"
        if self._console.is_terminal:
            self._console.print(done, highlight=False)
        else:
            logger.info(done)

    @contextlib.contextmanager
    def _bar(self, name: str) -> Iterator[ProgressCallback]:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.fields[stage]}"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
        )
        with Progress(*columns, console=self._console, transient=True) as bar:
            task: TaskID = bar.add_task("", total=None, stage=name)

            def report(message: str, share: float) -> None:
                bar.update(task, description=message, total=1.0, completed=min(share, 1.0))

            yield report

    @contextlib.contextmanager
    def _lines(self, name: str) -> Iterator[ProgressCallback]:
        logger.info("%s: started", name)
        last_time, last_share = time.monotonic(), 0.0

        def report(message: str, share: float) -> None:
            nonlocal last_time, last_share
            now = time.monotonic()
            silence, progress = now - last_time, abs(share - last_share)
            if silence >= SILENCE_SECONDS or (silence >= LINE_SECONDS and progress >= LINE_SHARE):
                logger.info("%s: %3.0f %% %s", name, 100 * share, message)
                last_time, last_share = now, share

        yield report


class _PeakMemory:
    """Measures, in a thread of its own, the peak memory of this process and its children (the JVM, Spark's workers).

    `memory_bytes` looks at every page, which takes a tenth of a second for gigabytes of memory. `resident_bytes`
    is cheap. So `memory_bytes` is called only when `resident_bytes` has grown by the factor GROWTH since the last call.
    """

    def __enter__(self) -> "_PeakMemory":
        self._resident = 0
        self.peak_bytes = 0
        self._measure()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="peak-memory", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._measure()

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self._measure()

    def _measure(self) -> None:
        resident = resident_bytes(os.getpid())
        if resident >= GROWTH * self._resident:
            self._resident = resident
            self.peak_bytes = max(self.peak_bytes, memory_bytes(os.getpid()))


def portion(report: ProgressCallback, start: float, end: float) -> ProgressCallback:
    """Return a callback for one part of a stage.

    Args:
        report: the callback of the whole stage.
        start: the share of the stage that is done when the part begins.
        end: the share of the stage that is done when the part ends.
    """
    return lambda message, share: report(message, start + (end - start) * share)


def memory_bytes(pid: int) -> int:
    """Return the resident memory of a process and all its descendants.

    On Linux, a page that several processes share counts once (PSS), because Spark's workers are forks that share
    most of their pages. Without psutil, this is the peak memory of only the current process.
    """
    return _sum_over_family(pid, _proportional_bytes if sys.platform == "linux" else _resident_bytes)


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process and all its descendants; pages that they share count more than once."""
    return _sum_over_family(pid, _resident_bytes)


def _sum_over_family(pid: int, measure: "Callable[[psutil.Process], int]") -> int:
    if psutil is None:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    total = 0
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.Error):  # the process ended during the measurement
                total += measure(process)
    return total


def _proportional_bytes(process: "psutil.Process") -> int:
    memory = process.memory_full_info()
    return getattr(memory, "pss", memory.rss)


def _resident_bytes(process: "psutil.Process") -> int:
    return process.memory_info().rss
