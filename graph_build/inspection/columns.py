"""Describes the columns of a sample: the kind of their values, examples, how many are missing, and how many differ."""

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from graph_build.config import TimeUnit
from graph_build.ingest.arrow_values import chunk, clean_texts, read_value, with_point
from graph_build.ingest.contract import is_list, is_text
from graph_build.ingest.fields import ROW
from graph_build.ingest.values import SCALES

ColumnKind = Literal["time", "date", "whole number", "number", "text", "flag", "list", "empty"]

_MOST_TESTED = 2_000  # values that are tested to tell the kind of a text column
_MIN_SHARE = 0.9
_SHOWN = 3
_EXAMPLE = 40  # characters
# Numbers count as times only if the times lie between these.
_EARLIEST, _LATEST = dt.datetime(1995, 1, 1, tzinfo=dt.UTC), dt.datetime(2040, 1, 1, tzinfo=dt.UTC)
_DATE = re.compile(r"\d{4}-?\d{1,2}-?\d{1,2}")
_LIST = re.compile(r"\s*\[.*\]\s*", re.DOTALL)
# Days since 1970, and numbers that only tell the order of events, look like any small numbers: not like times.
_UNITS: tuple[TimeUnit, ...] = ("s", "ms", "us", "ns")


@dataclass(frozen=True)
class Column:
    """One column of a sample.

    Args:
        name: the log's own name, with points where it leads into records.
        kind: what its values are.
        values: the values. Texts have no blanks around them, and words that stand for null are null.
        n: the number of rows.
        nulls: how many rows have no value.
        distinct: how many different values there are; 0 for lists, whose values are not compared.
        examples: the commonest values; in a column of lists, the first list.
    """

    name: str
    kind: ColumnKind
    values: pa.Array
    n: int
    nulls: int
    distinct: int
    examples: tuple[str, ...]

    @property
    def is_id(self) -> bool:
        """Return whether the values of the column may be ids."""
        return self.kind in ("text", "whole number") and self.distinct > 1

    def counts(self) -> dict[str, int]:
        """Return value as text → number of rows with it, the commonest value first."""
        pairs = chunk(self.values.cast(pa.string())).drop_null().value_counts()
        counted = zip(pairs.field("values").to_pylist(), pairs.field("counts").to_pylist(), strict=True)
        return dict(sorted(counted, key=lambda pair: (-pair[1], pair[0])))


def describe(table: pa.Table, null_words: Sequence[str], decimal: str = ".") -> dict[str, Column]:
    """Return the columns of a sample by name.

    Args:
        table: the rows.
        null_words: texts that stand for null.
        decimal: the decimal mark of numbers that are text.
    """
    names = [name for name in table.column_names if name != ROW]
    return {name: _described(name, table[name], null_words, decimal) for name in names}


def _described(name: str, column: pa.ChunkedArray, null_words: Sequence[str], decimal: str) -> Column:
    values = chunk(column)
    if is_text(values.type):
        values = clean_texts(values, null_words)
    nulls = values.null_count
    if nulls == len(values):
        return Column(name, "empty", values, len(values), nulls, 0, ())
    if is_list(values.type) or pa.types.is_nested(values.type):
        shown = tuple(_shown(value) for value in values.drop_null()[:1].to_pylist())
        return Column(name, "list", values, len(values), nulls, 0, shown)
    pairs = values.drop_null().value_counts()
    order = np.argsort(-pairs.field("counts").to_numpy(), kind="stable")
    distinct = pairs.field("values").take(pa.array(order))
    shown = tuple(_shown(value) for value in _as_python(distinct[:_SHOWN]))
    return Column(name, _kind(distinct, decimal), values, len(values), nulls, len(distinct), shown)


def _kind(distinct: pa.Array, decimal: str) -> ColumnKind:
    is_ = pa.types
    type_ = distinct.type
    if is_.is_boolean(type_):
        return "flag"
    if is_.is_timestamp(type_):
        return "time"
    if is_.is_date(type_):
        return "date"
    if is_.is_integer(type_):
        return "whole number"
    if is_.is_floating(type_) or is_.is_decimal(type_):
        return "whole number" if _is_whole(distinct) else "number"
    if not is_text(type_):
        return "text"
    step = max(1, len(distinct) // _MOST_TESTED)
    tested = distinct.take(pa.array(np.arange(0, len(distinct), step)))
    if decimal == ",":
        tested = with_point(tested)
    n = _MIN_SHARE * len(tested)
    if len(tested) - read_value(pa.chunked_array([tested]), "integer").null_count >= n:
        return "whole number"
    if len(tested) - read_value(pa.chunked_array([tested]), "number").null_count >= n:
        return "number"
    if len(tested) - read_value(pa.chunked_array([tested]), "time").null_count >= n:
        is_date = all(_DATE.fullmatch(text) for text in tested[:20].to_pylist())
        return "date" if is_date else "time"
    if all(_LIST.fullmatch(text) for text in tested[:20].to_pylist()):
        return "list"
    if len(distinct) <= 2 and {text.lower() for text in distinct.to_pylist()} <= {"true", "false", "yes", "no"}:
        return "flag"
    return "text"


def _is_whole(distinct: pa.Array) -> bool:
    """Return whether floats are whole numbers; pandas writes whole numbers as floats if some are missing."""
    numbers = distinct.cast(pa.float64(), safe=False)
    return bool(pc.all(pc.equal(numbers, pc.floor(numbers))).as_py())


def _as_python(values: pa.Array) -> list[Any]:
    try:
        return values.to_pylist()
    except (OverflowError, ValueError):  # a time outside of Python's calendar
        return values.cast(pa.string()).to_pylist()


def _shown(value: Any) -> str:
    text = value.isoformat(" ") if isinstance(value, dt.datetime) else str(value)
    text = text.removesuffix("+00:00")
    return text if len(text) <= _EXAMPLE else f"{text[: _EXAMPLE - 1]}…"


def time_unit(column: Column) -> TimeUnit | None:
    """Return the unit in which a column's numbers are plausible times; None if no unit fits, or it has no numbers."""
    if column.kind not in ("whole number", "number"):
        return None
    numbers = read_value(pa.chunked_array([column.values]), "number").drop_null()
    if not len(numbers):
        return None
    middle = float(np.median(numbers.to_numpy()))
    for unit in _UNITS:
        scale = SCALES[unit]
        seconds = middle * scale.factor / scale.divisor / 1e6
        if _EARLIEST.timestamp() <= seconds < _LATEST.timestamp():
            return unit
    return None


def _whole_numbers(column: Column) -> pa.Array:
    return read_value(pa.chunked_array([column.values]), "integer")


def is_basic_date(column: Column) -> bool:
    """Return whether whole numbers are dates without hyphens, such as 20260314."""
    if column.kind != "whole number":
        return False
    numbers = _whole_numbers(column).drop_null().to_numpy()
    year, month, day = numbers // 10_000, numbers // 100 % 100, numbers % 100
    fits = (year >= 1995) & (year < 2040) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
    return bool(len(fits)) and float(fits.mean()) >= _MIN_SHARE


def is_time(column: Column) -> bool:
    """Return whether a column's values may be times."""
    return column.kind in ("time", "date") or time_unit(column) is not None or is_basic_date(column)
