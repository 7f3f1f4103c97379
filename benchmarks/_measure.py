"""What a block of work costs with all its processes: wall and CPU seconds, and the peak memory of JVM and Python."""

import threading
import time
from dataclasses import dataclass
from types import TracebackType

import psutil

SAMPLE_SECONDS = 0.25


@dataclass(frozen=True)
class Cost:
    """Wall and CPU in seconds, peak PSS in GiB: of the JVM, of all Python processes, and of both at once."""

    wall: float
    cpu: float
    jvm: float
    python: float
    total: float


class Meter:
    """Measures its block; `cost` is there when the block has ended.

    CPU of a process that ended is counted by the parent that waited for it, so that none is lost or counted twice.
    """

    cost: Cost

    def __enter__(self) -> "Meter":
        self._stop = threading.Event()
        self._peak = [0.0, 0.0, 0.0]
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        self._began, self._cpu = time.perf_counter(), _cpu_seconds()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        wall, cpu = time.perf_counter() - self._began, _cpu_seconds() - self._cpu
        self._stop.set()
        self._thread.join()
        self.cost = Cost(wall, cpu, *self._peak)

    def _watch(self) -> None:
        while True:
            jvm, python = _memory_gib()
            self._peak = [max(old, new) for old, new in zip(self._peak, (jvm, python, jvm + python), strict=True)]
            if self._stop.wait(SAMPLE_SECONDS):
                return


def _family() -> list[psutil.Process]:
    this = psutil.Process()
    return [this, *this.children(recursive=True)]


def _cpu_seconds() -> float:
    total = 0.0
    for process in _family():
        try:
            spent = process.cpu_times()
        except psutil.Error:
            continue  # it ended while we looked
        total += spent.user + spent.system + spent.children_user + spent.children_system
    return total


def _memory_gib() -> tuple[float, float]:
    jvm = python = 0
    for process in _family():
        try:
            pss = process.memory_full_info().pss
            if process.name() == "java":
                jvm += pss
            else:
                python += pss
        except psutil.Error:
            continue
    return jvm / 2**30, python / 2**30
