"""What an inspection finds out about one table."""

from dataclasses import dataclass, field
from typing import Any

from graph_build.config import TimeUnit
from graph_build.ingest.contract import Table
from graph_build.inspection.columns import Column
from graph_build.inspection.layout import Layout
from graph_build.inspection.toml_text import toml_value


@dataclass(frozen=True)
class Fault:
    """Something that is wrong with a table.

    Args:
        message: what is wrong, and in which file and column or row.
        line: the line to write into the configuration; "" if the file itself must change.
        stops: whether the fault stops a build; if not, the build at most leaves rows or values out.
        cause: what the fault is about, such as a column.
    """

    message: str
    line: str = ""
    stops: bool = True
    cause: str = ""

    def __str__(self) -> str:
        return f"{self.message}: {self.line}" if self.line else self.message


@dataclass(frozen=True)
class TimeFacts:
    """The times of events.

    Args:
        first: the first time, in microseconds since 1970.
        last: the last time, likewise.
        unit: the unit of times that are numbers.
        by_hour: the number of events in each hour of the day, in UTC; empty if no time tells the hour.
        days: the number of days with an event.
    """

    first: int
    last: int
    unit: TimeUnit | None
    by_hour: tuple[int, ...]
    days: int


@dataclass
class TableFindings:
    """What is known of one table from a sample of its rows.

    Args:
        table: which of the three tables; None if it is none of them.
        paths: the paths that were given. If a path holds several tables, its files of this table replace it.
        files: all files of the table.
        n_bytes: the size of the files; if there are more than 1,000, the size of the first 1,000.
        layout: how the files are written.
        n_rows: the number of all rows; estimated if not all were looked at.
        n_sampled: the number of rows that were looked at.
        columns: the columns of these rows.
        mapping: the contract's column → the log's own name for it, or several names whose values are joined.
        settings: what to write under `[input.TABLE]`, beyond what is configured.
        input_settings: what to write under `[input]`.
        comments: key → why it must be written.
        event_types: the log's word for a type of event → its number of rows.
        meanings: the log's word → LightSAGE's type; "" if a person must decide.
        times: the times of the events; None if there are none.
        counts: the numbers of sessions, users and items, as far as the table has them.
        faults: what is wrong.
        notes: what is worth knowing, but no fault.
        why_none: why it is none of the three tables.
    """

    table: Table | None
    paths: list[str]
    files: list[str]
    n_bytes: int
    layout: Layout
    n_rows: int = 0
    n_sampled: int = 0
    columns: dict[str, Column] = field(default_factory=dict)
    mapping: dict[str, str | tuple[str, ...]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    input_settings: dict[str, Any] = field(default_factory=dict)
    comments: dict[str, str] = field(default_factory=dict)
    event_types: dict[str, int] = field(default_factory=dict)
    meanings: dict[str, str] = field(default_factory=dict)
    times: TimeFacts | None = None
    counts: dict[str, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    why_none: str = ""

    def write(self, key: str, value: Any, message: str, *, stops: bool = True) -> None:
        """Note that a key of the table must be written, and why.

        Args:
            key: the key.
            value: its value.
            message: what is wrong without it.
            stops: whether a build would stop.
        """
        self.settings[key] = value
        self.comments[key] = message
        line = f"[input.{self.table or 'events'}] {key} = {toml_value(value)}"
        self.faults.append(Fault(message, line, stops=stops, cause=key))

    def read_as(self, name: str) -> Column | None:
        """Return the log's column that is read as one of the contract; None if there is none, or several are joined.

        Args:
            name: the contract's name.
        """
        own = self.mapping.get(name)
        return self.columns.get(own) if isinstance(own, str) else None

    @property
    def is_all(self) -> bool:
        """Return whether all rows were looked at."""
        return self.n_sampled >= self.n_rows
