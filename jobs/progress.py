"""What a long command tells while it works: a bar on a terminal, lines elsewhere, and what each stage cost.

The commands wrap each stage; a room is handed the stage's `report` as its progress callback, and no more.
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
except ImportError:  # an extra: without it the memory of child processes is not seen
    psutil = None

logger = logging.getLogger(__name__)

Report = Callable[[str, float], None]

# Between two log lines of a stage lies at least this much time, and this much of the work or a long silence.
LINE_SECONDS = 5.0
LINE_SHARE = 0.1
SILENCE_SECONDS = 60.0
SAMPLE_SECONDS = 0.25


class StageRecord(BaseModel):
    """What a stage took: wall time (seconds), and the most memory that all its processes held together (bytes)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    seconds: float
    peak_bytes: int


class StageProgress:
    """Shows the stages of one command, and keeps their records in order.

    On a terminal each stage is a bar; elsewhere its start and its end are log lines, with a few in between.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stderr)
        self._records: list[StageRecord] = []

    @property
    def records(self) -> tuple[StageRecord, ...]:
        """The stages that ended without an error, in the order of their ends."""
        return tuple(self._records)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[Report]:
        """Time the block; it reports (message, share of the work done, 0 to 1) through what this yields."""
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
    def _bar(self, name: str) -> Iterator[Report]:
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
    def _lines(self, name: str) -> Iterator[Report]:
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
    """Samples the memory of this process and its children (the JVM, Spark's workers) in a thread."""

    def __enter__(self) -> "_PeakMemory":
        self.peak_bytes = memory_bytes(os.getpid())
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="peak-memory", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.peak_bytes = max(self.peak_bytes, memory_bytes(os.getpid()))

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self.peak_bytes = max(self.peak_bytes, memory_bytes(os.getpid()))


def memory_bytes(pid: int) -> int:
    """The resident memory of a process and all its descendants.

    Where the system tells (Linux), a page that several of them share counts once (PSS): Spark's workers are forks.
    Without psutil, the peak of this process alone.
    """
    if psutil is None:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    total = 0
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.Error):  # it ended while we looked
                memory = process.memory_full_info() if sys.platform == "linux" else process.memory_info()
                total += getattr(memory, "pss", memory.rss)
    return total
