"""Times the stages of a build and reports its progress."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

log = logging.getLogger(__name__)

# Called with a stage's name and the share of the build that is done, in [0, 1].
ProgressCallback = Callable[[str, float], None]


@dataclass
class StageClock:
    """The wall time of each stage, and the progress that the caller sees."""

    progress: ProgressCallback | None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, done: float) -> Iterator[None]:
        """Time one stage; `done` is the share of the whole build that is finished when the stage begins."""
        if self.progress is not None:
            self.progress(name, done)
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 2)
        log.info("%s: %.1f s", name, self.seconds[name])
