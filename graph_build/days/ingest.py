"""Stores days of events. `claims` decides what an ingest does with each day of its input."""

import datetime as dt
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from graph_build.config import GraphConfig
from graph_build.days.claims import Action, Claims, DayInput, days_in_paths
from graph_build.days.days_file import DaysFile, StoredDay, new_ingest_folder, put_days, read_days_file, sweep
from graph_build.days.late import LateSessions, compare, events_of_conflicts, not_delivered
from graph_build.days.store import StoredDays, check_folders, has_folder
from graph_build.days.writer import read_refused, write_and_read, write_days, write_refused
from graph_build.decay import EPOCH, day_number
from graph_build.errors import GraphInputError
from graph_build.ingest import checked_tables, spark_reader
from graph_build.ingest.files import Source, expanded, mixed_ids
from graph_build.ingest.refusals import listed
from graph_build.ingest.warnings import event_doubts, unknown_types, without_sessions
from graph_build.sessions.rows import session_rows, without_users
from graph_build.sessions.schema import SESSION_ROW_IN_SPARK
from graph_build.spark.storage import join, remove_folder

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class IngestOptions:
    """How an ingest treats the store.

    Args:
        days: the days to store; the input must hold each of them completely. None = all days with a valid event in the
            input. Its paths may then say which of these days it holds completely (`claims`).
        least_share: an input with at least this share of a stored day's events and sessions counts as the whole day.
        force: replace days even if stored events are lost.
        quarantine_days: the age in days at which refused rows are deleted.
        source: the fingerprint to store with each day (`StoredDay.source`).
        check: called right before `days.json` is replaced; it raises an error if this process may no longer change the
            store.
    """

    days: Sequence[dt.date] | None = None
    least_share: float = 0.8
    force: bool = False
    quarantine_days: float = 30
    source: str | None = None
    check: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class IngestResult:
    """The result of an ingest.

    Args:
        days: the days that were stored or changed.
        before: the earlier state of the days that were stored before.
        actions: day of the input → what was done with it.
        refused: reason → number of rows that were refused.
        other_days: number of events of days that were not requested.
        ignored: number of events of types that mean nothing.
        already_stored: number of late sessions whose events were all stored before.
        late_impressions: number of impressions of days to which only late sessions were added. Impressions belong to no
            session, so it is not known which of them were counted before. The count of these days stays as it is.
        doubts: sentences about things that look wrong with the input.
    """

    days: dict[dt.date, StoredDay]
    before: dict[dt.date, StoredDay]
    actions: dict[dt.date, Action]
    refused: dict[str, int] = field(default_factory=dict)
    other_days: int = 0
    already_stored: int = 0
    late_impressions: int = 0
    doubts: list[str] = field(default_factory=list)
    ignored: int = 0

    @property
    def lines(self) -> list[str]:
        """What was done: one line for each day, and one line for each kind of rows that were not stored."""
        lines = []
        for day, stored in self.days.items():
            text, before = f"{day}: {stored.events:,} events stored", self.before.get(day)
            if self.actions[day] is Action.EXTEND and before is not None:
                text += f", {stored.events - before.events:,} of them came late"
            elif before is not None:
                text += f" ({before.events:,} before)"
            lines.append(text)
        if self.refused:
            lines.append(f"rows refused, and kept in quarantine: {listed(self.refused)}")
        if self.other_days:
            lines.append(f"events of other days, which are not stored: {self.other_days:,}")
        if self.ignored:
            lines.append(f"events of types that mean nothing: {self.ignored:,}")
        if self.already_stored:
            lines.append(f"late sessions that were stored already: {self.already_stored:,}")
        if self.late_impressions:
            lines.append(f"late impressions, which are not counted: {self.late_impressions:,}")
        return lines


def ingest(
    spark: "SparkSession", paths: list[str], root: str, config: GraphConfig, options: IngestOptions | None = None
) -> IngestResult:
    """Store days of events (`claims` says which days are replaced, and which only get late sessions).

    Args:
        spark: the Spark session.
        paths: files or folders of events.
        root: the store; it is created if it does not exist.
        config: how the events are read, and the settings on which stored days depend.
        options: how the store is treated; None = the defaults.

    Raises:
        GraphInputError: the events cannot be used, or would replace a day by a part of it. In both cases the store is
            unchanged.
    """
    options = options or IngestOptions()
    file = read_days_file(root)
    file.check_settings(root, config)
    if swept := sweep(root, file, options.quarantine_days):
        log.info("%s: removed what nothing names any more: %s", root, ", ".join(swept))
    sources = spark_reader.sources("events", paths, config.input)
    doubts = mixed_ids("events", sources, config.input)
    days = None if options.days is None else list(options.days)
    checked = checked_tables.checked_events(spark, sources, config, None, days)
    doubts += unknown_types(checked.unknown_types)
    doubts += event_doubts(checked.rows, checked.by_day, config.input.day_zone)
    doubts += without_sessions(checked.without_session, checked.n_events, config.input.events.session_gap)
    for doubt in doubts:
        log.warning(doubt)
    with new_ingest_folder(root) as folder:
        job = _Ingest(spark, root, folder, config, options, file, checked, doubts)
        result = job.run(_claims(paths, sources, options), sources)
        options.check()
        put_days(root, file, result.days, config)
    return replace(result, doubts=doubts)


def _claims(paths: list[str], sources: list[Source], options: IngestOptions) -> Claims:
    files: dict[str, list[str]] = {path: [] for path in paths}
    for source in sources:
        files[paths[source.order]] += source.files
    # For a pattern, the names of the folders that it matched count as well.
    by_path = days_in_paths([file for path in paths for file in expanded(path, files[path])], files)
    named = None if options.days is None else frozenset(options.days)
    return Claims(named, by_path, options.least_share, options.force)


@dataclass
class _Ingest:
    """One ingest, into a folder of its own. It appends further sentences to `doubts`."""

    spark: "SparkSession"
    root: str
    folder: str
    config: GraphConfig
    options: IngestOptions
    file: DaysFile
    checked: checked_tables.Events
    doubts: list[str]

    def run(self, claims: Claims, sources: list[Source]) -> IngestResult:
        """Write the days into the folder; `days.json` does not name them yet."""
        rows = self._assembled_rows()
        actions = self._actions(rows, claims)
        if empty := sorted((claims.asked or frozenset()) - set(actions)):
            why = f" ({listed(self.checked.refused)})" if self.checked.refused else ""
            raise GraphInputError(f"{_first_files(sources)}: no valid event of {', '.join(map(str, empty))}{why}")
        late = self._late_sessions(rows, {day for day, action in actions.items() if action is Action.EXTEND})
        impressions = _impressions_by_day(self.checked, self.file.forgotten)
        days = self._write_days(self._merged(rows, actions, late), actions, claims, impressions)
        if not days and late.conflicts:
            flags = " ".join(f"--day {day}" for day in late.days)
            raise GraphInputError(
                f"{_first_files(sources)}: nothing is stored, because the sessions of all events are stored already; "
                f"those of {', '.join(map(str, late.days))} are stored without some of these events "
                f"(session_stored). To store these days anew, give all their files with {flags}"
            )
        refused: dict[str, int] = {}
        if days:
            days, refused = self._write_refused(days, actions, late, sources)
        remove_folder(join(self.root, self.folder, "all"))
        before = {day: self.file.days[day] for day in days if day in self.file.days}
        extended = {day_number(day) for day, action in actions.items() if action is Action.EXTEND}
        n_late = sum(n for day, n in impressions.items() if day in extended)
        return IngestResult(
            days, before, actions, refused, self.checked.unused, late.known, n_late, ignored=self.checked.ignored
        )

    def _assembled_rows(self) -> "DataFrame":
        """Assemble the sessions, without those of forgotten users, and write them once."""
        rows = session_rows(self.checked.usable, self.config, self.checked.n_events)
        rows = without_users(rows, self.file.forgotten)
        return write_and_read(rows, self.root, f"{self.folder}/all", SESSION_ROW_IN_SPARK)

    def _actions(self, rows: "DataFrame", claims: Claims) -> dict[dt.date, Action]:
        """Return what to do with each day of the input."""
        counts = {_date(row[0]): row[1] for row in rows.groupBy("day").agg(F.sum("counted")).collect()}
        stored = {day: self.file.days[day] for day in counts if day in self.file.days}
        if claims.asked is not None:  # so that a day whose folder is lost can be stored anew
            stored = {day: facts for day, facts in stored.items() if has_folder(self.root, facts)}
        covered: dict[dt.date, float] = {}
        if stored and claims.asked is None:
            sessions = self._stored_rows(stored).select("day", "session")
            both = sessions.join(rows.select("session", F.lit(1).alias("again")), "session", "left")
            shares = both.groupBy("day").agg(F.count("again") / F.count(F.lit(1))).collect()
            covered = {_date(row[0]): row[1] for row in shares}
        return {
            day: claims.action(day, DayInput(events, covered.get(day, 0.0)), stored.get(day))
            for day, events in sorted(counts.items())
        }

    def _stored_rows(self, days: Iterable[dt.date]) -> "DataFrame":
        """Return the stored sessions of days."""
        stored = {day: self.file.days[day] for day in days}
        check_folders(self.root, stored)
        done = min((day.forgotten for day in stored.values()), default=0)
        return StoredDays(self.root, stored, True, self.file.forgotten[done:]).rows(self.spark)

    def _late_sessions(self, rows: "DataFrame", days: set[dt.date]) -> LateSessions:
        """Compare the sessions of late rows with the stored ones."""
        if not days:
            return LateSessions()
        return compare(rows.where(_is_of(days)), self._stored_rows(days), self.config.input.events.longest_pause)

    def _merged(self, rows: "DataFrame", actions: dict[dt.date, Action], late: LateSessions) -> "DataFrame":
        """Return the rows to store. Those of an extended or completed day include sessions that are stored already."""
        extended = {day for day, action in actions.items() if action is Action.EXTEND}
        completed = {day for day, action in actions.items() if action is Action.COMPLETE}
        if not extended and not completed:
            return rows
        # If a session is both stored and delivered, the stored row counts, unless the input claims the day.
        merged = rows.where(~_is_of(extended)).unionByName(self._stored_rows(late.with_news))
        if late.unstored is not None:
            merged = merged.unionByName(rows.join(late.unstored, "session", "left_semi").select(*rows.columns))
        if completed:
            merged = merged.unionByName(self._stray_rows(rows, completed))
        return merged

    def _stray_rows(self, rows: "DataFrame", completed: set[dt.date]) -> "DataFrame":
        """Return the stored stray rows that stay when their days' own logs come; report how many events are lost."""
        longest_pause = self.config.input.events.longest_pause
        stays, goes = not_delivered(self._stored_rows(completed), rows.where(_is_of(completed)), longest_pause)
        for day, lost in sorted(goes.groupBy("day").agg(F.sum("lost")).collect()):
            doubt = (
                f"{_date(day)}: {lost:,} events that came with the files of another day are left out, because the "
                "day's own files hold their sessions without them; to keep them, give all files of the day with "
                f"--day {_date(day)}"
            )
            log.warning(doubt)
            self.doubts.append(doubt)
        return stays

    def _write_days(
        self, rows: "DataFrame", actions: dict[dt.date, Action], claims: Claims, impressions: dict[int, int]
    ) -> dict[dt.date, StoredDay]:
        extended = [day for day, action in actions.items() if action is Action.EXTEND]
        counts = impressions | {day_number(day): self.file.days[day].impressions for day in extended}
        stored = write_days(rows, self.root, self.folder, self.config, counts, self.checked.usable)
        return {
            day: replace(
                facts,
                # Late sessions do not change the source of the day, so that its own log is still recognised.
                source=self.file.days[day].source if actions[day] is Action.EXTEND else self.options.source,
                whole=self.file.days[day].whole
                if actions[day] is Action.EXTEND
                else claims.whole(day, self.file.days.get(day)),
                forgotten=len(self.file.forgotten),
            )
            for day, facts in stored.items()
        }

    def _write_refused(
        self,
        days: dict[dt.date, StoredDay],
        actions: dict[dt.date, Action],
        late: LateSessions,
        sources: list[Source],
    ) -> tuple[dict[dt.date, StoredDay], dict[str, int]]:
        """Write the refused rows beside the days; return the days with all their counts, and this ingest's counts."""
        columns = (F.lit("events").alias("input"), "reason", F.col("raw").alias("row"), "user", "session", "day")
        parts = [self.checked.refused_rows] if self.checked.refused else []
        if late.conflicts is not None:
            rows = checked_tables.events_of_days(self.spark, sources, self.config, late.days)
            parts.append(events_of_conflicts(rows, late.conflicts))
        if not parts:
            return self._with_earlier_refusals(days, actions), {}
        rows = reduce(lambda union, part: union.unionByName(part), [part.select(*columns) for part in parts])
        rows = _without_users_events(rows, self.checked.rows, self.file.forgotten)
        by_day = write_refused(rows, self.root, days)
        days = {day: replace(stored, refused=by_day.get(day, {})) for day, stored in days.items()}
        return self._with_earlier_refusals(days, actions), _total(by_day.values())

    def _with_earlier_refusals(
        self, days: dict[dt.date, StoredDay], actions: dict[dt.date, Action]
    ) -> dict[dt.date, StoredDay]:
        """Add the rows that earlier ingests refused, and their counts, to extended and completed days."""
        for day, stored in days.items():
            if actions[day] not in (Action.EXTEND, Action.COMPLETE):
                continue
            before = self.file.days[day]
            if (rows := read_refused(self.spark, self.root, {day: before})) is not None:
                rows.drop("day").write.mode("append").parquet(join(self.root, stored.quarantine(day)))
            days = days | {day: replace(stored, refused=_total([before.refused, stored.refused]))}
        return days


def _impressions_by_day(checked: checked_tables.Events, forgotten: Sequence[int]) -> dict[int, int]:
    """Return day number → impressions, without those of forgotten users."""
    if not checked.by_type.get("impression"):
        return {}
    impressions = checked.rows.where("reason is null and not left_out and event_type = 'impression'")
    if forgotten:
        impressions = impressions.where(~F.col("user").isin(*forgotten))
    return {row[0]: row[1] for row in impressions.groupBy("day").count().collect()}


def _without_users_events(refused: "DataFrame", events: "DataFrame", users: Sequence[int]) -> "DataFrame":
    """Return the refused rows without those of users and of sessions in which these users have an event."""
    if not users:
        return refused
    sessions = events.where(F.col("user").isin(*users)).select("session").distinct()
    return refused.where(~F.col("user").isin(*users)).join(sessions, "session", "left_anti")


def _is_of(days: Iterable[dt.date]) -> "Column":
    return F.col("day").isin([day_number(day) for day in days])


def _date(number: int) -> dt.date:
    return EPOCH + dt.timedelta(days=number)


def _total(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for of_day in counts:
        for reason, n in of_day.items():
            total[reason] = total.get(reason, 0) + n
    return total


def _first_files(sources: list[Source]) -> str:
    return ", ".join(file for source in sources for file in source.files[:3])
