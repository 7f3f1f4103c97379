"""Decides for each day of an input what an ingest does with it: whether the day is whole, or only late rows of it came.

An input *claims* a day if it is expected to hold the whole day. It claims the days that the caller names. If the caller
names none, it claims the days that its paths name (`date=2026-03-06/`, `2026-03-06.parquet`, `events_20260306.csv`). A
day that is not stored yet is stored. A stored day is

- replaced, if the input holds nearly all of its stored events and sessions: the day was delivered again. If the caller
  names the day, and more than stray rows of it were stored, nearly all of its events are enough;
- completed, if the input claims it, but does not replace it, and only stray rows of it were stored so far;
- extended by new sessions, if the input neither claims it nor holds nearly all of it: these rows of the day came late.

Any other claim stops the ingest, because the input may be only a part of the day. With `force`, an input replaces every
day that it claims, or, if it claims no day, every day of which it holds events.
"""

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePath

from graph_build.days.days_file import StoredDay
from graph_build.errors import GraphInputError

_DATE = re.compile(r"(?<!\d)(\d{4})-?(\d{2})-?(\d{2})(?!\d)")


class Action(Enum):
    """What an ingest does with a day of its input."""

    STORE = "stored"
    REPLACE = "replaced"
    COMPLETE = "completed"
    EXTEND = "extended"


@dataclass(frozen=True)
class DayInput:
    """The part of one day that the input holds.

    Args:
        events: number of item events of the day in the input.
        covered: share of the day's stored sessions that the input holds too; 0 if the day is not stored, or if the
            caller names the days.
    """

    events: int
    covered: float = 0.0


@dataclass(frozen=True)
class Claims:
    """The days that an input claims.

    Args:
        asked: the days that the caller names; None if the caller names none.
        by_path: the days that the paths of the input name.
        least_share: an input with at least this share of a stored day's events and sessions counts as the whole day.
        force: replace the claimed days, or all days of the input if none is claimed, even if stored events are lost.
    """

    asked: frozenset[dt.date] | None
    by_path: frozenset[dt.date]
    least_share: float
    force: bool = False

    def whole(self, day: dt.date, before: StoredDay | None = None) -> bool:
        """Return whether a day counts as whole: it was whole before, the input claims it, or the input claims no day.

        Args:
            day: a day that is stored, replaced or completed.
            before: the day as it was stored before; None if it was not stored.
        """
        return day in self._claimed or not self._claimed or (before is not None and before.whole)

    def action(self, day: dt.date, day_input: DayInput, stored: StoredDay | None) -> Action:
        """Return what to do with a day.

        Args:
            day: the day.
            day_input: the part of the day that the input holds.
            stored: the day as it is stored; None if it is not stored.

        Raises:
            GraphInputError: the input claims the day, but holds too little of its stored events or sessions.
        """
        if stored is None:
            return Action.STORE
        is_claimed = day in self._claimed
        enough = day_input.events >= self.least_share * stored.events
        covers = enough and day_input.covered >= self.least_share
        if (self.force and (is_claimed or not self._claimed)) or covers:
            return Action.REPLACE
        if not is_claimed:
            return Action.EXTEND
        if not stored.whole:
            return Action.COMPLETE
        if self.asked is not None and enough:
            return Action.REPLACE
        held = f"{day_input.events:,} events" if not enough else f"{day_input.covered:.0%} of the stored sessions"
        raise GraphInputError(
            f"the input holds {held} of {day}, which is stored with {stored.events:,} events: replacing the day would "
            f"lose the rest. Give all files of the day with --day {day}, or --force to replace it nevertheless"
        )

    @property
    def _claimed(self) -> frozenset[dt.date]:
        return self.by_path if self.asked is None else self.asked


def days_in_paths(paths: Iterable[str], files: Mapping[str, Iterable[str]]) -> frozenset[dt.date]:
    """Return the days whose dates stand in the names of files and folders.

    Args:
        paths: the inputs as they were given. If an input is a file, the name of the nearest folder above it counts too;
            the names of folders above an input that is a folder do not count.
        files: input → the files in it.

    >>> sorted(days_in_paths(["/log/2025-01-01/date=2026-03-06"], {}))[0].isoformat()
    '2026-03-06'
    """
    days: set[dt.date] = set()
    for path in paths:
        for file in [path, *files.get(path, ())]:
            below = PurePath(file).parts[max(0, len(PurePath(path).parts) - 1) :]
            names = below if len(below) > 1 or not PurePath(path).suffix else PurePath(path).parts[-2:]
            days.update(day for name in names for day in _dates(name))
    return frozenset(days)


def _dates(name: str) -> list[dt.date]:
    dates = []
    for year, month, day in _DATE.findall(name):
        try:
            dates.append(dt.date(int(year), int(month), int(day)))
        except ValueError:
            continue  # eight digits that are no date
    return dates
