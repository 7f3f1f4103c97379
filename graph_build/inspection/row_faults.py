"""Checks the rows of a sample against the contract, counts what is wrong with them, and says what to do about it."""

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from graph_build.config import EventsInput, EventType, Ignored, TableInput
from graph_build.errors import GraphInputError
from graph_build.ingest.arrow_values import ARROW_TYPES, chunk, clean_texts, contract_types, read_value, with_point
from graph_build.ingest.contract import Table, column_kinds, is_list, is_text, own_name
from graph_build.ingest.fields import ROW
from graph_build.ingest.refusals import check_unit, event_faults
from graph_build.inspection.findings import Fault, TableFindings
from graph_build.inspection.sample import Sample

# If more than this share of a sample is bad, the whole table is taken to be bad.
ALMOST_ALL = 0.99
_SHOWN_TYPES = 8
_SLASHES = re.compile(r"\d{1,2}[/.]\d{1,2}[/.]\d{2,4}")
_UNKNOWN_TYPE = "type_unknown"


@dataclass(frozen=True)
class ContractRows:
    """The rows of a sample under the contract's names.

    Args:
        values: column → its values, read as its kind; columns that the table lacks are left out.
        written: column → its values as they were written, null where there is none.
        n: the number of rows.
    """

    values: dict[str, pa.Array]
    written: dict[str, pa.Array]
    n: int

    @classmethod
    def of(cls, table: Table, rows: pa.Table, section: TableInput, null_words: Sequence[str]) -> "ContractRows":
        """Return the rows of a sample, read by the settings of the table.

        Args:
            table: which of the three tables.
            rows: the rows, with the log's own columns.
            section: the settings of the table.
            null_words: texts that stand for null.
        """
        values, written = {}, {}
        unit = section.timestamp_unit if isinstance(section, EventsInput) else None
        for name, kind in column_kinds(table).items():
            column = _own_values(rows, section.columns.get(name, name), null_words)
            if (constant := section.constants.get(name)) is not None:
                filled = pa.array([str(constant)] * len(rows))
                column = filled if column is None else pc.coalesce(column.cast(pa.string()), filled)
            if column is None:
                continue
            written[name] = column
            if is_list(column.type) or kind in ("vector", "words"):
                continue
            if kind in ("number", "integer") and section.decimal == "," and is_text(column.type):
                column = with_point(column)
            try:
                values[name] = read_value(pa.chunked_array([column]), kind, unit if kind == "time" else None)
            except (pa.ArrowException, KeyError):  # the column's type does not fit; the check of columns reports it
                values[name] = pa.nulls(len(rows), ARROW_TYPES[kind])
        return cls(values, written, len(rows))

    def value(self, name: str) -> pa.Array:
        """Return the values of a column, all null if the table lacks it."""
        return self.values.get(name, pa.nulls(self.n, pa.string()))


def _own_values(rows: pa.Table, own: str | tuple[str, ...], null_words: Sequence[str]) -> pa.Array | None:
    """Return the values of a column of the log, or of several that are joined; None if the log lacks one of them."""
    if own == ROW and ROW not in rows.column_names:
        return pa.array([str(n) for n in range(len(rows))])
    parts = [own] if isinstance(own, str) else list(own)
    if any(part not in rows.column_names for part in parts):
        return None
    columns = [chunk(rows[part]) for part in parts]
    if len(columns) > 1:
        texts = [column.cast(pa.string()) for column in columns]
        return pc.binary_join_element_wise(*texts, " ")
    column = columns[0]
    if not is_text(column.type):
        return column
    return clean_texts(column, null_words)


class _Values:
    """Values with the operators that `event_faults` needs.

    Arrow's expressions have these operators too, but importing them would take longer than the check.
    """

    def __init__(self, values: pa.Array) -> None:
        self.values = values

    def is_null(self) -> "_Values":
        return _Values(pc.is_null(self.values))

    def __eq__(self, other: object) -> "_Values":  # type: ignore[override]
        return _Values(pc.equal(self.values, other))

    def __lt__(self, other: int) -> "_Values":
        return _Values(pc.less(self.values, other))

    def __gt__(self, other: int) -> "_Values":
        return _Values(pc.greater(self.values, other))

    def __ge__(self, other: int) -> "_Values":
        return _Values(pc.greater_equal(self.values, other))

    def __or__(self, other: "_Values") -> "_Values":
        return _Values(pc.or_kleene(self.values, other.values))

    def __and__(self, other: "_Values") -> "_Values":
        return _Values(pc.and_kleene(self.values, other.values))

    def __invert__(self) -> "_Values":
        return _Values(pc.invert(self.values))

    __hash__ = None  # type: ignore[assignment]


def row_faults(findings: TableFindings, rows: ContractRows, sample: Sample, max_bad_share: float) -> list[Fault]:
    """Return what is wrong with the rows of a sample, with counts and, if a setting helps, the line to write.

    Args:
        findings: what is known of the table.
        rows: the rows of the sample.
        sample: the sample, with what is wrong with its lines.
        max_bad_share: the largest share of bad rows with which a build goes on.
    """
    if not rows.n and not sample.broken:
        return [Fault(f"{findings.files[0]}: the {findings.table} are empty (0 rows)", cause="rows")]
    reporter = _Reporter(findings, rows, max_bad_share)
    reporter.lines(sample)
    {"events": reporter.events, "items": reporter.items, "ads": reporter.ads}[findings.table or "events"]()
    return reporter.faults


class _Reporter:
    """Collects the faults of one table."""

    def __init__(self, findings: TableFindings, rows: ContractRows, max_bad_share: float) -> None:
        self.findings, self.rows, self.max_bad_share = findings, rows, max_bad_share
        self.faults: list[Fault] = []

    def lines(self, sample: Sample) -> None:
        """Report rows with too many or too few values, and lines that cannot be read."""
        file = self.findings.files[0]
        for lines, what, advice in (
            (sample.surplus, "hold more values than there are columns", "quote values that hold separators"),
            (sample.broken, "are no JSON objects", "each line must hold one"),
        ):
            if lines:
                line, text = lines[0]
                where = f"line {line}" if line else "e.g."
                n = self._of(len(lines), "rows" if lines is sample.surplus else "lines", sample.n_seen)
                message = f"{file}: {n} {what}; {where}: {text[:80]!r}; {advice}"
                self.faults.append(Fault(message, stops=self._stops(len(lines)), cause="lines"))
        if sample.short:
            n = self._of(sample.short, "rows", sample.n_seen)
            self.findings.notes.append(f"{n} hold fewer values than there are columns; nulls fill them up")

    def events(self) -> None:
        """Report events that would be refused."""
        rows = self.rows
        meanings = {word: cast(EventType | Ignored, kind) for word, kind in self.findings.meanings.items() if kind}
        person = pc.coalesce(rows.value("session_id"), rows.value("user_id"))
        columns: dict[str, pa.Array] = {
            "session_id": person,
            "user_id": person,
            "event_type": contract_types(rows.value("event_type").cast(pa.string()), meanings),
            "query": rows.value("query"),
            "item_id": rows.value("item_id"),
            "time": rows.values.get("timestamp", pa.nulls(rows.n, pa.timestamp("us", "UTC"))).cast(pa.int64()),
        }
        now = dt.datetime.now(dt.UTC)
        conditions = event_faults(lambda name: _Values(columns[name]), _Values.is_null, now)
        taken = pa.array([False] * rows.n)
        for reason, condition in conditions.items():
            holds = pc.and_not(pc.fill_null(condition.values, False), taken)
            taken = pc.or_(taken, holds)
            if (n := pc.sum(holds).as_py() or 0) and reason != "ignored":
                self._event_fault(reason, n, holds)
        self._wrong_unit(columns["time"].filter(pc.invert(taken)), now)
        self._unreadable("price", "the events stay, without their price")

    def _event_fault(self, reason: str, n: int, holds: pa.Array) -> None:
        if reason == _UNKNOWN_TYPE:
            self._unknown_types(holds)
            return
        columns = {
            "session_missing": ("session_id", "have neither a session nor a user"),
            "time_invalid": ("timestamp", "have no time that can be read"),
            "query_missing": ("query", "are searches without a query"),
            "item_missing": ("item_id", "have no item"),
            "time_in_future": ("timestamp", "lie in the future"),
        }
        name, what = columns[reason]
        if name not in self.rows.written:  # the missing column itself is a fault already
            return
        line = ""
        own = self._own(name)
        written = self.rows.written[name].filter(holds).drop_null()
        example = f", e.g. {_text(written[0])!r}" if len(written) else " (the value is missing)"
        if reason == "time_invalid" and len(written) and _SLASHES.match(_text(written[0])):
            example += "; write times as 2026-03-14 09:05:00"
        if reason == "item_missing":
            line = self._types_without_items(holds)
        message = f"{self.findings.files[0]}: {self._of(n, 'events')} {what} in column {own!r}{example}"
        self.faults.append(Fault(message, line, stops=self._stops(n), cause=reason))

    def _types_without_items(self, holds: pa.Array) -> str:
        """Return the line that leaves out the event types that never have an item; "" if there are no such types."""
        if "event_type" not in self.rows.written:
            return ""
        written = self.rows.written["event_type"].cast(pa.string())
        without = set(pc.unique(written.filter(holds)).to_pylist()) - {None}
        with_item = set(pc.unique(written.filter(pc.is_valid(self.rows.value("item_id")))).to_pylist())
        never = sorted(without - with_item)
        if not never:
            return ""
        return "[input.events.types] " + ", ".join(f'"{word}" = "ignore"' for word in never[:_SHOWN_TYPES])

    def _unknown_types(self, holds: pa.Array) -> None:
        if "event_type" not in self.rows.written:
            return
        pairs = self.rows.written["event_type"].filter(holds).cast(pa.string()).value_counts()
        counts = {row["values"]: row["counts"] for row in pairs.to_pylist()}
        n = sum(counts.values())
        words = [word for word in sorted(counts, key=lambda word: -counts[word]) if word is not None]
        named = ", ".join(f"{word!r}: {counts[word]:,}" for word in words[:_SHOWN_TYPES])
        if None in counts:
            named = ", ".join([*([named] if named else []), f"no type: {counts[None]:,}"])
        kinds = ", ".join(f'"{word}" = "{self.findings.meanings.get(word) or "…"}"' for word in words[:_SHOWN_TYPES])
        line = f"[input.events.types] {kinds}" if words else ""
        message = f"{self.findings.files[0]}: {self._of(n, 'events')} are of types that are not known ({named})"
        self.faults.append(Fault(message, line, stops=self._stops(n), cause=_UNKNOWN_TYPE))

    def _wrong_unit(self, times: pa.Array, now: dt.datetime) -> None:
        if not len(times):
            return
        ends = pc.min_max(times).as_py()
        try:
            check_unit(self.findings.files[0], ends["min"], ends["max"], self._unit(), now)
        except GraphInputError as error:
            self.faults.append(Fault(str(error), cause="timestamp_unit"))

    def _unit(self) -> Any:
        return self.findings.settings.get("timestamp_unit")

    def items(self) -> None:
        """Report items that would be refused, or lose a value."""
        ids = self.rows.value("item_id")
        self._missing("item_id", ids)
        self._unreadable("price", "these items stay, without their price")
        n = len(ids.drop_null()) - len(pc.unique(ids.drop_null()))
        if n:
            note = f"{self._of(n, 'rows')} repeat an item; the last row of an item counts"
            self.findings.notes.append(note)

    def ads(self) -> None:
        """Report ads that would be refused."""
        for name in ("ad_id", "item_id", "campaign_id"):
            if name in self.rows.written:
                self._missing(name, self.rows.value(name))
        for name in ("starts_at", "ends_at", "bid", "version"):
            self._unreadable(name, "these ads are refused", refused=True)
        starts, ends = self.rows.values.get("starts_at"), self.rows.values.get("ends_at")
        if starts is not None and ends is not None and (n := pc.sum(pc.less(ends, starts)).as_py() or 0):
            message = f"{self.findings.files[0]}: {self._of(n, 'ads')} end before they start; these ads are refused"
            self.faults.append(Fault(message, stops=self._stops(n), cause="ends_before_start"))

    def _missing(self, name: str, values: pa.Array) -> None:
        if (n := values.null_count) and name in self.rows.written:
            message = f"{self.findings.files[0]}: {self._of(n, 'rows')} have no value in column {self._own(name)!r}"
            self.faults.append(Fault(message, stops=self._stops(n), cause=f"{name}_missing"))

    def _unreadable(self, name: str, consequence: str, *, refused: bool = False) -> None:
        """Report the values of a column of times or numbers that cannot be read as a time or a number."""
        if name not in self.rows.written or name not in self.rows.values:
            return
        lost = pc.and_(pc.is_valid(self.rows.written[name]), pc.is_null(self.rows.values[name]))
        if n := pc.sum(lost).as_py() or 0:
            example = _text(self.rows.written[name].filter(lost)[0])
            what = "time" if column_kinds(self.findings.table or "events")[name] == "time" else "number"
            message = (
                f"{self.findings.files[0]}: {self._of(n, 'values')} in column {self._own(name)!r} are no {what} that "
                f"can be read, e.g. {example!r}; {consequence}"
            )
            line = ""
            if what == "number" and re.fullmatch(r"[+-]?\d+,\d+", example):
                line = f'[input.{self.findings.table}] decimal = ","'
            self.faults.append(Fault(message, line, stops=refused and self._stops(n), cause=name))

    def _own(self, name: str) -> str:
        return own_name(self.findings.mapping.get(name, name))

    def _of(self, n: int, what: str, total: int | None = None) -> str:
        sampled = "" if self.findings.is_all else " in the sample"
        return f"{n:,} of {self.rows.n if total is None else total:,} {what}{sampled}"

    def _stops(self, n: int) -> bool:
        """Return whether a build would stop because of n bad rows; a sample may be worse than the whole table."""
        least = self.max_bad_share if self.findings.is_all else max(self.max_bad_share, ALMOST_ALL)
        return n > least * self.rows.n


def _text(scalar: pa.Scalar) -> str:
    try:
        return str(scalar.as_py())
    except (OverflowError, ValueError):  # a time outside of Python's calendar
        return str(scalar.value)
