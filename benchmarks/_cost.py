"""The cost of a block of code with all its processes: wall and CPU seconds, and peak memory of the JVM and Python."""

import itertools
import threading
import time
from dataclasses import dataclass
from types import TracebackType

import psutil

SAMPLE_SECONDS = 0.25
MEMORY_SAMPLES = 4  # reading PSS is slow, so only every fourth sample includes memory


@dataclass(frozen=True)
class Cost:
    """Wall and CPU seconds, and peak PSS in GiB of the JVM, of all Python processes, and of both together."""

    wall: float
    cpu: float
    jvm: float
    python: float
    total: float


def loop_seconds() -> float:
    """Return the CPU seconds of a plain loop of 20 million additions, to compare the speed of hosts."""
    began, total = time.process_time(), 0
    for number in range(20_000_000):
        total += number
    return time.process_time() - began


class Meter:
    """Measures the block that it surrounds; `cost` is set when the block has ended.

    The CPU time is the sum of the last times seen of all processes, because the times of Spark's workers are not added
    to those of a parent when they end. The CPU time of measuring is subtracted.
    """

    cost: Cost

    def __enter__(self) -> "Meter":
        self._stop = threading.Event()
        self._peak = [0.0, 0.0, 0.0]
        self._spent: dict[psutil.Process, float] = {}
        self._measuring = 0.0
        self._sample_cpu()
        self._thread = threading.Thread(target=self._sample_until_stopped, daemon=True)
        self._began, self._before = time.perf_counter(), sum(self._spent.values())
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        wall = time.perf_counter() - self._began
        self._stop.set()
        self._thread.join()
        self.cost = Cost(wall, sum(self._spent.values()) - self._before - self._measuring, *self._peak)

    def cpu(self) -> float:
        """Return the CPU seconds so far, with the seconds of measuring."""
        self._sample_cpu()
        return sum(self._spent.copy().values()) - self._before

    def _sample_until_stopped(self) -> None:
        for sample in itertools.count():
            stopped = self._stop.wait(SAMPLE_SECONDS)
            family = self._sample_cpu()
            if stopped or sample % MEMORY_SAMPLES == 0:
                jvm, python = _memory_gib(family)
                self._peak = [max(old, new) for old, new in zip(self._peak, (jvm, python, jvm + python), strict=True)]
            if stopped:
                self._measuring = time.thread_time()
                return

    def _sample_cpu(self) -> list[psutil.Process]:
        this = psutil.Process()
        family = [this, *this.children(recursive=True)]
        for process in family:
            try:
                times = process.cpu_times()
            except psutil.Error:
                continue  # it ended during the measurement
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
