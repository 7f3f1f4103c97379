"""What a block of work costs with all its processes: wall and CPU seconds, and the peak memory of JVM and Python."""

import itertools
import threading
import time
from dataclasses import dataclass
from types import TracebackType

import psutil

SAMPLE_SECONDS = 0.25
MEMORY_SAMPLES = 4  # PSS is dear to read: every fourth time


@dataclass(frozen=True)
class Cost:
    """Wall and CPU in seconds, peak PSS in GiB: of the JVM, of all Python processes, and of both at once."""

    wall: float
    cpu: float
    jvm: float
    python: float
    total: float


def loop_seconds() -> float:
    """CPU seconds of a plain loop, by which hosts can be compared."""
    began, total = time.process_time(), 0
    for number in range(20_000_000):
        total += number
    return time.process_time() - began


class Meter:
    """Measures its block; `cost` is there when the block has ended.

    CPU is summed over all processes that were seen, as they were last seen: Spark's workers end unwaited for, so that
    nobody else would count them. What the measuring itself spends is taken off.
    """

    cost: Cost

    def __enter__(self) -> "Meter":
        self._stop = threading.Event()
        self._peak = [0.0, 0.0, 0.0]
        self._spent: dict[psutil.Process, float] = {}
        self._own = 0.0
        self._look()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._began, self._before = time.perf_counter(), sum(self._spent.values())
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        wall = time.perf_counter() - self._began
        self._stop.set()
        self._thread.join()
        self.cost = Cost(wall, sum(self._spent.values()) - self._before - self._own, *self._peak)

    def cpu(self) -> float:
        """CPU seconds so far; in the block, what the measuring itself spends is still among them."""
        self._look()
        return sum(self._spent.copy().values()) - self._before

    def _watch(self) -> None:
        for sample in itertools.count():
            stopped = self._stop.wait(SAMPLE_SECONDS)
            family = self._look()
            if stopped or sample % MEMORY_SAMPLES == 0:
                jvm, python = _memory_gib(family)
                self._peak = [max(old, new) for old, new in zip(self._peak, (jvm, python, jvm + python), strict=True)]
            if stopped:
                self._own = time.thread_time()
                return

    def _look(self) -> list[psutil.Process]:
        this = psutil.Process()
        family = [this, *this.children(recursive=True)]
        for process in family:
            try:
                times = process.cpu_times()
            except psutil.Error:
                continue  # it ended while we looked
            self._spent[process] = times.user + times.system
        return family


def _memory_gib(family: list[psutil.Process]) -> tuple[float, float]:
    jvm = python = 0
    for process in family:
        try:
            pss = process.memory_full_info().pss
            if process.name() == "java":
                jvm += pss
            else:
                python += pss
        except psutil.Error:
            continue
    return jvm / 2**30, python / 2**30
