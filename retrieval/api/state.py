"""What a server answers with: a version and the live changes of its ads, and how both move on under load."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import numpy as np

from retrieval.api.telemetry import Metrics
from retrieval.catalogue.ads import Ads
from retrieval.config import ServeConfig
from retrieval.errors import RequestError, RetrievalError
from retrieval.live.change import Change
from retrieval.live.change_log import ChangeLog, Entry
from retrieval.live.live_ads import LiveAds, Outcome
from retrieval.search.request import RetrievalRequest
from retrieval.search.retriever import Retriever

_log = logging.getLogger(__name__)
_WARMING_QUERIES = 50
_WARMING_COUNTRIES = 8


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A version, ready to answer."""

    version: str
    as_of: datetime
    retriever: Retriever


class Refused(NamedTuple):
    """A published version that is not served, and why."""

    version: str
    why: str


class Served:
    """The one place where a server's state changes; requests read `snapshot` once each.

    Changes and versions are prepared in threads, one at a time, and put in place between two requests.

    Args:
        load: opens the version that is published now, checked.
        current_version: its name.
        log: what is appended to it by whichever server that shares it counts here too.
    """

    def __init__(
        self,
        load: Callable[[], Snapshot],
        current_version: Callable[[], str],
        log: ChangeLog,
        config: ServeConfig,
        metrics: Metrics,
        clock: Callable[[datetime], datetime],
    ) -> None:
        self._load, self._current, self._log = load, current_version, log
        self._config, self._metrics, self._clock = config, metrics, clock
        self._one_at_a_time = asyncio.Lock()
        self._live: LiveAds | None = None
        self._serving: Snapshot | None = None
        self._retry_at = 0.0
        self._said = ""
        self.refused: Refused | None = None

    @property
    def ready(self) -> bool:
        """Whether anything is served."""
        return self._serving is not None

    @property
    def snapshot(self) -> Snapshot:
        """What is served now."""
        assert self._serving is not None, "nothing is served before `running`"
        return self._serving

    @property
    def sequence(self) -> int:
        """The last entry of the log that counts here."""
        return self._live.changes.sequence if self._live else 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve the published version, and follow what is published and changed, until the end of the context."""
        snapshot = self._load()
        live = None if snapshot.retriever.ads is None else LiveAds(snapshot.retriever.ads)
        if live is not None:
            live.take(self._log.after(0))
        self._put(snapshot, live)
        del snapshot, live  # or this frame would keep the first version for good
        following = [
            asyncio.create_task(self._again(self.look, self._config.current_check_seconds)),
            asyncio.create_task(self._again(self.catch_up, self._config.changes_poll_seconds)),
        ]
        yield
        for task in following:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def take(self, changes: Sequence[Change]) -> list[Outcome]:
        """Write changes to the log and put them in force; the next request sees them.

        Raises:
            RequestError: the version has no ads table.
            ChangeLogError: they cannot be written; none of them counts.
        """
        async with self._one_at_a_time:
            await self._catch_up()
            if self._live is None:
                raise RequestError("changes", "this version has no ads table, so that every item counts as advertised")
            repeated = [self._live.changes.repeats(change) for change in changes]
            news = [change for change, again in zip(changes, repeated, strict=True) if not again]
            if news:
                await asyncio.to_thread(self._log.append, news)
                await self._catch_up()
            return [
                Outcome("repeated") if again else self._live.outcome(change)
                for change, again in zip(changes, repeated, strict=True)
            ]

    async def catch_up(self) -> None:
        """Put in force what others have written to the log."""
        async with self._one_at_a_time:
            await self._catch_up()

    async def _catch_up(self) -> None:
        if self._live is None:
            return
        if entries := await asyncio.to_thread(self._log.after, self._live.changes.sequence):
            # Nothing reads the live ads but what holds the lock; requests read the `Ads` that were put in place.
            await asyncio.to_thread(self._live.take, entries)
            self.snapshot.retriever.use(self._live.ads)
            self._metrics.changes.set(self._live.changes.sequence)

    async def entries(self, after: int, limit: int) -> list[Entry]:
        """The log, for those who poll it."""
        return await asyncio.to_thread(self._log.after, after, limit)

    async def published(self) -> str | None:
        """The name of the published version; None when it cannot be read, which must not fail what is loaded."""
        return await asyncio.to_thread(self._published)

    def _published(self) -> str | None:
        try:
            name = self._current()
        except Exception as error:  # a workspace may be away, or damaged, in any way
            said = f"which version is published cannot be read ({error}); {self.snapshot.version} is served on"
            if said != self._said:
                _log.warning("%s", said)
            self._said = said
            return None
        self._said = ""
        return name

    async def look(self) -> None:
        """Serve another version once it is published, or say why not."""
        name = await self.published()
        if name is None:
            return
        if name == self.snapshot.version:
            self._refuse(None)
            return
        if self.refused and self.refused.version == name and time.monotonic() < self._retry_at:
            return
        began = time.perf_counter()
        try:
            snapshot = await asyncio.to_thread(self._prepared)
            async with self._one_at_a_time:
                await self._catch_up()
                live = None
                if snapshot.retriever.ads is not None:
                    live = await asyncio.to_thread(self._rebased, snapshot.retriever.ads)
                before = self.snapshot.version
                self._put(snapshot, live)
        except Exception as error:  # whatever is wrong with it, or with the live changes: what is served must stay
            self._refuse(Refused(name, str(error) or type(error).__name__))
            return
        self._refuse(None)
        del snapshot, live
        await asyncio.to_thread(_give_memory_back)
        self._metrics.reloads.labels("served").inc()
        seconds = time.perf_counter() - began
        _log.info("version %s is served instead of %s, after %.1f s", self.snapshot.version, before, seconds)

    def _prepared(self) -> Snapshot:
        """The published version, loaded, warm, and seen to answer."""
        interval = sys.getswitchinterval()
        # Loading holds the interpreter for long stretches, which requests would wait for.
        sys.setswitchinterval(min(interval, 0.0005))
        try:
            snapshot = self._load()
            warm(snapshot.retriever, self._clock(snapshot.as_of))
            return snapshot
        finally:
            sys.setswitchinterval(interval)

    def _rebased(self, ads: Ads) -> LiveAds:
        if self._live is not None:
            return self._live.rebased(ads)
        live = LiveAds(ads)
        live.take(self._log.after(0))
        return live

    def _put(self, snapshot: Snapshot, live: LiveAds | None) -> None:
        if live is not None:
            snapshot.retriever.use(live.ads)
            self._metrics.changes.set(live.changes.sequence)
        self._serving, self._live = snapshot, live
        self._metrics.as_of.clear()
        self._metrics.as_of.labels(snapshot.version).set(snapshot.as_of.timestamp())

    def _refuse(self, refused: Refused | None) -> None:
        if refused is not None:
            self._retry_at = time.monotonic() + self._config.retry_refused_seconds
            self._metrics.reloads.labels("refused").inc()
            if refused != self.refused:
                served = self.snapshot.version
                _log.error("version %s is published but not served: %s; %s is served on", *refused, served)
        self.refused = refused
        self._metrics.refused.set(0 if refused is None else 1)

    async def _again(self, what: Callable[[], object], seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await what()  # type: ignore[misc]
            except RetrievalError as error:
                _log.error("%s", error)
            except Exception:
                _log.exception("following what is published and changed failed, and goes on")


def warm(retriever: Retriever, at: datetime) -> None:
    """Answer a sample of queries, so that no request waits for pages to be read; whatever cannot be answered raises."""
    n = retriever.catalogue.n_rows
    if not n:
        raise RetrievalError("the version has no items")
    rows = np.random.default_rng(0).choice(n, min(n, _WARMING_QUERIES), replace=False)
    ids = retriever.catalogue.item_ids[rows].tolist()
    # Single items, and lists of them: a session encoder answers to these alone.
    asked = [[item] for item in ids] + [ids[:2], ids[: retriever.ranker.recent_items]]
    # Where every ad is for some country nothing is found without one.
    countries = [] if retriever.ads is None else retriever.ads.countries[:_WARMING_COUNTRIES]
    for country in (None, *countries):
        for items in asked if country in (None, *countries[:1]) else asked[:1]:
            if not np.isfinite(retriever.retrieve(RetrievalRequest(items, 20, at=at, country=country)).scores).all():
                raise RetrievalError(f"the version gives scores that are no numbers, e.g. after {items}")
    if not retriever.retrieve(RetrievalRequest([retriever.catalogue.item_ids[0]], 1, all_items=True)).results and n > 1:
        raise RetrievalError("the version answers nothing")


def _give_memory_back() -> None:
    """To the system, what the version before has left."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
