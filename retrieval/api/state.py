"""The state of a server: the served version and the live changes of its ads, both replaced while requests come in."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, TypeVar

import numpy as np

from retrieval.api.telemetry import Metrics
from retrieval.catalogue.ads import Ads
from retrieval.config import ServeConfig
from retrieval.errors import BusyError, RequestError, RetrievalError
from retrieval.live.change import Change
from retrieval.live.change_log import ChangeLog, CompactedError
from retrieval.live.live_ads import LiveAds, Outcome
from retrieval.search.request import RetrievalRequest
from retrieval.search.retriever import Retriever
from retrieval.times import microseconds

_log = logging.getLogger(__name__)
Result = TypeVar("Result")
# How far ahead, in µs, eligible ads are found: two seconds, because this happens every second.
_LOOK_AHEAD = 2_000_000
_WARMING_QUERIES = 50
_WARMING_COUNTRIES = 8
# Loading a version and applying changes hold the interpreter for long stretches, so other threads get a turn after this
# many seconds.
_SWITCH_INTERVAL = 0.0005
_ENTRIES_AT_ONCE = 10_000


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A version that is ready to answer requests."""

    version: str
    as_of: datetime
    retriever: Retriever

    def pinned(self) -> Snapshot:
        """Return the version with its present ads, for a thread that answers a request while the ads may change."""
        return Snapshot(self.version, self.as_of, self.retriever.pinned())


class RefusedVersion(NamedTuple):
    """A published version that is not served, and why."""

    version: str
    why: str


class ServerState:
    """The only place where a server's state changes; each request reads `snapshot` once.

    Changes and versions are prepared in threads, and a lock makes sure that they are put in place one at a time. The
    thread that writes the log and applies changes does nothing else, as it may wait for other servers' writers. Only
    this thread uses the live ads; requests read the `Ads` in the snapshot.

    Attributes:
        log: the log of live changes.
        refused: the published version that is not served, if there is one.

    Args:
        load: opens and verifies the version that is published now.
        current_version: returns the name of that version.
        log: the log of live changes; entries appended by other servers that share it are applied here too.
        config: the limits of the server.
        metrics: where reloads, refusals and changes are counted.
        clock: takes the as-of time of the served version, and returns the time for which requests without `at` are
            answered.
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
        self._load, self._current_version, self.log = load, current_version, log
        self._config, self._metrics, self._clock = config, metrics, clock
        self._lock = asyncio.Lock()
        self._worker = ThreadPoolExecutor(1, "changes")
        self._aside = ThreadPoolExecutor(2, "changes-aside")
        self._writers = 0
        self._sequence = 0
        self._live: LiveAds | None = None
        self._snapshot: Snapshot | None = None
        self._retry_at = 0.0
        self._last_warning = ""
        self._looking: asyncio.Future[str | None] | None = None
        self.refused: RefusedVersion | None = None

    @property
    def ready(self) -> bool:
        """Whether a version is served."""
        return self._snapshot is not None

    @property
    def snapshot(self) -> Snapshot:
        """The version that is served now."""
        assert self._snapshot is not None, "nothing is served before `running`"
        return self._snapshot

    @property
    def sequence(self) -> int:
        """The number of the last applied entry of the log."""
        return self._sequence

    def now(self, snapshot: Snapshot) -> datetime:
        """Return the time for which a request without `at` is answered."""
        return self._clock(snapshot.as_of)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve the published version and follow publications and changes until the context ends."""
        snapshot = self._load()
        live = None if snapshot.retriever.ads is None else LiveAds(snapshot.retriever.ads, self.log.read())
        self._replace(snapshot, live)
        del snapshot, live  # else this frame would keep the first version in memory
        interval = sys.getswitchinterval()
        sys.setswitchinterval(min(interval, _SWITCH_INTERVAL))
        tasks = [
            asyncio.create_task(self._repeat(self.check_published, self._config.current_check_seconds)),
            asyncio.create_task(self._repeat(self.catch_up, self._config.changes_poll_seconds)),
            asyncio.create_task(self._repeat(self.look_ahead, 1.0)),
        ]
        yield
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        sys.setswitchinterval(interval)
        for threads in (self._worker, self._aside):
            threads.shutdown(wait=False)

    async def record(self, changes: Sequence[Change]) -> list[Outcome]:
        """Write changes to the log and apply them, so that the next request sees them.

        Raises:
            RequestError: the version has no ads table.
            BusyError: too many changes wait, or they waited too long.
            ChangeLogError: the log cannot be written; none of the changes is applied.
        """
        if self._writers >= self._config.max_waiting_writers:
            raise BusyError(f"{self._writers} requests with changes are waiting already; try again later")
        self._writers += 1
        try:
            try:
                async with asyncio.timeout(self._config.changes_wait_seconds):
                    await self._lock.acquire()
            except TimeoutError:
                raise BusyError("earlier changes are still being written; try again later") from None
            try:
                outcomes = await self._in_worker(self._record, changes)
                self._show_changes()
            finally:
                self._lock.release()
        finally:
            self._writers -= 1
        return outcomes

    async def catch_up(self) -> None:
        """Apply the entries that other servers have written to the log; make a snapshot if the log is long."""
        async with self._lock:
            await self._catch_up()
            if self._live is not None and self._is_compaction_due(self._live):
                await self._in_worker(self.log.compact, self._live.changes)

    async def aside(self, function: Callable[..., Result], *args: object) -> Result:
        """Call a function that takes a while or reads the log, while other requests go on; return what it returns."""
        return await asyncio.get_running_loop().run_in_executor(self._aside, function, *args)

    async def look_ahead(self) -> None:
        """Find the ads that are eligible in the next seconds, so that no request waits when an ad starts or ends."""
        snapshot = self.snapshot.pinned()
        now = microseconds(self.now(snapshot))
        await self.aside(snapshot.retriever.prepare_time, now, now + _LOOK_AHEAD)

    async def _in_worker(self, function: Callable[..., Result], *args: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._worker, function, *args)

    async def _catch_up(self) -> None:
        await self._in_worker(self._apply_entries)
        self._show_changes()

    def _show_changes(self) -> None:
        """Answer later requests with the present ads, even if the request that changed them was cancelled half-way."""
        live = self._live
        if live is not None and live.ads is not self.snapshot.retriever.ads:
            # The worker frees the previous ads, which takes a while for a million ads.
            self._worker.submit(_forget, self.snapshot.retriever.ads)
            self.snapshot.retriever.replace_ads(live.ads)
        if live is not None:
            self._sequence = live.changes.sequence
            self._metrics.changes.set(self._sequence)

    def _record(self, changes: Sequence[Change]) -> list[Outcome]:
        """Write and apply changes, in the worker."""
        self._apply_entries()
        live = self._live
        if live is None:
            raise RequestError("changes", "this version has no ads table: every item counts as advertised")
        coded = [live.changes.coded(change) for change in changes]
        repeated = [live.changes.repeats(change) for change in coded]
        unrecorded = [change for change, repeats in zip(changes, repeated, strict=True) if not repeats]
        if unrecorded:
            entries = self.log.append(unrecorded)
            if entries[0].sequence == live.changes.sequence + 1:
                live.apply(entries)
                self._prepare(live)
            else:
                self._apply_entries()
                live, coded = self._live or live, [(self._live or live).changes.coded(change) for change in changes]
        outcomes = iter(live.outcomes([change for change, repeats in zip(coded, repeated, strict=True) if not repeats]))
        return [Outcome("repeated") if repeats else next(outcomes) for repeats in repeated]

    def _apply_entries(self) -> None:
        """Apply the entries of the log that are not applied yet, in the worker."""
        live = self._live
        if live is None:
            return
        try:
            while entries := self.log.after(live.changes.sequence, _ENTRIES_AT_ONCE):
                live.apply(entries)
        except CompactedError:
            # Another server has made a snapshot of entries that are not applied here.
            self._live = live = live.reread(self.log.read())
        self._prepare(live)

    def _prepare(self, live: LiveAds) -> None:
        served = self.snapshot.retriever.ads
        if served is not None and live.ads is not served:
            self.snapshot.retriever.prepare_ads(live.ads)

    def _is_compaction_due(self, live: LiveAds) -> bool:
        n_entries = live.changes.sequence - self.log.snapshot_sequence
        # A snapshot of more ads takes longer, so it is made after more entries.
        return n_entries > max(self._config.changes_compact_after, len(live.changes) // 10)

    async def published(self) -> str | None:
        """Return the name of the published version; None if it cannot be read, so that no request fails for this."""
        # Requests that ask at the same time share one look-up, because a workspace may take long to answer.
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(asyncio.to_thread(self._published))
        return await asyncio.shield(self._looking)

    def _published(self) -> str | None:
        try:
            name = self._current_version()
        except Exception as error:  # a workspace may be unreachable or damaged in any way
            served = self.snapshot.version
            warning = f"the name of the published version cannot be read ({error}); {served} stays in service"
            if warning != self._last_warning:
                _log.warning("%s", warning)
            self._last_warning = warning
            self._metrics.current_unreadable.set(1)
            return None
        self._last_warning = ""
        self._metrics.current_unreadable.set(0)
        return name

    async def check_published(self) -> None:
        """Serve the published version if it is not served yet, or record why it is refused."""
        name = await self.published()
        if name is None:
            return
        if name == self.snapshot.version:
            self._refuse(None)
            return
        if self.refused and self.refused.version == name and time.monotonic() < self._retry_at:
            return
        start = time.perf_counter()
        try:
            snapshot = await asyncio.to_thread(self._load_warm)
            async with self._lock:
                await self._catch_up()
                live = None
                if snapshot.retriever.ads is not None:
                    live = await self._in_worker(self._rebase, snapshot.retriever.ads)
                previous = self.snapshot.version
                self._replace(snapshot, live)
        except Exception as error:  # whatever is wrong with the new version or the live changes, the served one stays
            self._refuse(RefusedVersion(name, str(error) or type(error).__name__))
            return
        self._refuse(None)
        del snapshot, live
        await asyncio.to_thread(_release_memory)
        self._metrics.reloads.labels("served").inc()
        seconds = time.perf_counter() - start
        _log.info("version %s has replaced version %s after %.1f s", self.snapshot.version, previous, seconds)

    def _load_warm(self) -> Snapshot:
        """Load the published version and answer a sample of queries with it."""
        snapshot = self._load()
        warm(snapshot.retriever, self.now(snapshot))
        return snapshot

    def _rebase(self, ads: Ads) -> LiveAds:
        """Return another version's ads with all live changes applied."""
        if self._live is not None:
            return self._live.rebased(ads)
        return LiveAds(ads, self.log.read())

    def _replace(self, snapshot: Snapshot, live: LiveAds | None) -> None:
        if live is not None:
            snapshot.retriever.replace_ads(live.ads)
            self._sequence = live.changes.sequence
            self._metrics.changes.set(self._sequence)
        self._snapshot, self._live = snapshot, live
        self._metrics.as_of.clear()
        self._metrics.as_of.labels(snapshot.version).set(snapshot.as_of.timestamp())

    def _refuse(self, refused: RefusedVersion | None) -> None:
        if refused is not None:
            self._retry_at = time.monotonic() + self._config.retry_refused_seconds
            self._metrics.reloads.labels("refused").inc()
            if refused != self.refused:
                served = self.snapshot.version
                _log.error("version %s is published but cannot be served: %s; %s stays in service", *refused, served)
        self.refused = refused
        self._metrics.refused.set(0 if refused is None else 1)

    async def _repeat(self, step: Callable[[], Awaitable[None]], seconds: float) -> None:
        reported = ""
        while True:
            await asyncio.sleep(seconds)
            try:
                await step()
                reported = ""
            except RetrievalError as error:
                # An error that lasts, such as a log that was moved away, is not reported every second.
                if str(error) != reported:
                    reported = str(error)
                    _log.error("%s", reported)
            except Exception:
                _log.exception("checking for new versions or changes failed; it will be tried again")


def warm(retriever: Retriever, at: datetime) -> None:
    """Answer a sample of queries, so that later requests need not wait for pages to be read from disk.

    Args:
        retriever: the retriever of a version that was just loaded.
        at: the time for which the queries are answered.

    Raises:
        RetrievalError: the version has no items, finds nothing, or gives scores that are not finite.
    """
    n = retriever.catalogue.n_rows
    if not n:
        raise RetrievalError("the version has no items")
    rows = np.random.default_rng(0).choice(n, min(n, _WARMING_QUERIES), replace=False)
    ids = retriever.catalogue.item_ids[rows].tolist()
    # The sample has lists as well as single items, because a session encoder encodes only lists.
    item_lists = [[item] for item in ids] + [ids[:2], ids[: retriever.ranker.recent_items]]
    # If every ad is limited to some countries, a request without a country finds nothing.
    countries = [] if retriever.ads is None else retriever.ads.countries[:_WARMING_COUNTRIES]
    for country in (None, *countries):
        for items in item_lists if country in (None, *countries[:1]) else item_lists[:1]:
            response = retriever.retrieve(RetrievalRequest(items, 20, at=at, country=country))
            if not np.isfinite(response.scores).all():
                raise RetrievalError(f"the version gives scores that are not finite, e.g. after {items}")
    retriever.retrieve(RetrievalRequest([], 20, at=at))  # a fallback, for which all items are sorted by popularity
    first_item = RetrievalRequest([retriever.catalogue.item_ids[0]], 1, all_items=True)
    if not retriever.retrieve(first_item).results and n > 1:
        raise RetrievalError("the version finds no neighbour of its first item")


def _forget(_: object) -> None:
    """Hold the last reference to an object, so that the thread that calls this frees the object."""


def _release_memory() -> None:
    """Return the memory of the previous version to the system."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
