"""Turns columns of Arrow into the contract's kinds, by the grammar of `values`; `arrow_reader` uses it."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from graph_build.config import EventType, Ignored, TimeUnit
from graph_build.ingest.contract import Kind, is_text, value_type
from graph_build.ingest.refusals import ANY_OTHER, type_names
from graph_build.ingest.values import (
    BASIC_FORMS,
    BLANKS,
    DAY,
    END_OF_TIMES,
    FIRST_TIME,
    SCALES,
    WRITTEN_COUNT,
    WRITTEN_INTEGER,
    WRITTEN_NUMBER,
    WRITTEN_TIME,
    TimeScale,
    zone_offset,
)

TIME = pa.timestamp("us", "UTC")
ARROW_TYPES: dict[Kind, pa.DataType] = {
    "id": pa.string(),
    "text": pa.string(),
    "time": TIME,
    "number": pa.float64(),
    "integer": pa.int64(),
}
_PER_UNIT = {"s": 1_000_000, "ms": 1_000, "us": 1}
_LARGEST_INTEGER = np.iinfo(np.int64).max
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def chunk(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return a column in one piece."""
    if isinstance(column, pa.Array):
        return column
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def read_value(
    column: pa.ChunkedArray, kind: Kind, unit: TimeUnit | None = None, null_words: tuple[str, ...] = ()
) -> pa.Array:
    """Return a column's values as the kind; a value that cannot be read is null.

    A time before the year 1 or after the year 9999 becomes some time before `FIRST_TIME`, or not before `END_OF_TIMES`.

    Args:
        column: a column of a type that the contract accepts for the kind.
        kind: id, text, time, number or integer.
        unit: the unit of times that are numbers; None if times may not be numbers.
        null_words: texts that stand for null.
    """
    type_ = value_type(column.type)
    values = chunk(column.cast(type_))
    if pa.types.is_null(type_):
        return values.cast(ARROW_TYPES[kind])
    if is_text(type_):
        values = clean_texts(values, null_words)
    if kind in ("id", "text"):
        text = values.cast(pa.string())
        is_ascii = pc.all(pc.string_is_ascii(text)).as_py() is not False
        return text if is_ascii else pc.utf8_normalize(text, "NFC")
    if kind == "time":
        return _times(values, unit)
    return _integers(values) if kind == "integer" else _doubles(values)


def with_point(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return numbers that are written with a decimal comma in the form with a decimal point.

    A point becomes a comma, so that a number that was written with a point cannot be read.
    """
    for written, other in ((".", "\0"), (",", "."), ("\0", ",")):
        column = pc.replace_substring(column, written, other)
    return column


def clean_texts(values: pa.Array, null_words: Sequence[str]) -> pa.Array:
    """Return texts without the blanks around them; if nothing or a word for null is left, the text is null.

    Args:
        values: texts.
        null_words: texts that stand for null.
    """
    text = pc.utf8_trim(values.cast(pa.string()), BLANKS)
    return pc.if_else(pc.is_in(text, pa.array(["", *null_words])), None, text)


def contract_types(words: pa.Array, types: Mapping[str, EventType | Ignored]) -> pa.Array:
    """Return the contract's type of each event, null for an unknown one.

    Args:
        words: the log's words for the types, in upper or lower case.
        types: `[input.events] types`.
    """
    known = type_names(types)
    kinds = pa.array(known.values()).take(pc.index_in(pc.utf8_lower(words), pa.array(known)))
    return pc.if_else(pc.and_(pc.is_null(kinds), pc.is_valid(words)), known.get(ANY_OTHER), kinds)


def _doubles(values: pa.Array) -> pa.Array:
    if not is_text(values.type):
        return values.cast(pa.float64(), safe=False)
    written = pc.if_else(pc.match_substring_regex(values, WRITTEN_NUMBER), values, None)
    return pc.utf8_ltrim(written, "+").cast(pa.float64())


def _integers(values: pa.Array) -> pa.Array:
    """Return int64. The fraction of a double is cut off: pandas writes integers as doubles if one is missing."""
    type_ = values.type
    if is_text(type_):
        parts = pc.extract_regex(values.cast(pa.string()), WRITTEN_INTEGER)
        sign, digits = pc.struct_field(parts, "sign"), pc.struct_field(parts, "digits")
        text = pc.binary_join_element_wise(pc.replace_substring(sign, "+", ""), digits, "")
        values = pc.if_else(pc.less_equal(pc.utf8_length(digits), 19), text, None).cast(pa.decimal128(20, 0))
    elif pa.types.is_floating(type_):
        limit = float(_LARGEST_INTEGER)
        values = values.cast(pa.float64())
        values = pc.if_else(pc.and_(pc.less(values, limit), pc.greater_equal(values, -limit)), values, None)
        return values.cast(pa.int64(), safe=False)
    elif pa.types.is_decimal(type_):
        values = pc.round(values, ndigits=0, round_mode="towards_zero").cast(pa.decimal128(38, 0))
    if pa.types.is_decimal(values.type) or pa.types.is_uint64(values.type):
        fits = pc.less_equal(values, pa.scalar(_LARGEST_INTEGER).cast(values.type))
        if pa.types.is_decimal(values.type):
            fits = pc.and_(fits, pc.greater_equal(values, pa.scalar(-_LARGEST_INTEGER - 1).cast(values.type)))
        values = pc.if_else(fits, values, None)
    return values.cast(pa.int64(), safe=False)


def _times(values: pa.Array, unit: TimeUnit | None) -> pa.Array:
    """Return UTC times in microseconds; times without a zone are in UTC."""
    type_ = values.type
    if pa.types.is_timestamp(type_):
        if type_.unit == "ns":
            return values.cast(pa.timestamp("us", type_.tz), safe=False).cast(pa.int64()).cast(TIME)
        return _scaled(values.cast(pa.int64()), _PER_UNIT[type_.unit])
    if pa.types.is_date32(type_):
        return _scaled(values.cast(pa.int32()).cast(pa.int64()), DAY)
    if pa.types.is_date64(type_):
        return _scaled(values.cast(pa.int64()), _PER_UNIT["ms"])
    if not is_text(type_) or unit is not None:
        return _counted_times(values, SCALES[unit or "s"])
    return _written_times(values)


def _counted_times(values: pa.Array, scale: TimeScale) -> pa.Array:
    """Return the times that numbers stand for. Fractions are read to the microsecond."""
    if pa.types.is_floating(values.type) or pa.types.is_decimal(values.type):
        numbers = values.cast(pa.float64(), safe=False)
        near = pc.less_equal(pc.abs(numbers), float(scale.farthest))
        micros = pc.floor(pc.add(pc.multiply(pc.if_else(near, numbers, None), scale.factor / scale.divisor), 0.5))
        return pc.add(micros.cast(pa.int64()), scale.start).cast(TIME)
    whole, fraction = values, None
    if is_text(values.type):
        parts = pc.extract_regex(values.cast(pa.string()), WRITTEN_COUNT)
        whole = pc.struct_field(parts, "whole")
        sixths = pc.utf8_slice_codeunits(pc.utf8_rpad(pc.struct_field(parts, "fraction"), 6, "0"), 0, 6)
        fraction = pc.divide(pc.multiply(sixths.cast(pa.int64()), scale.factor), scale.divisor * 1_000_000)
        fraction = pc.if_else(pc.starts_with(whole, "-"), pc.negate(fraction), fraction)
    whole = _integers(whole)
    near = pc.and_(pc.greater_equal(whole, -scale.farthest), pc.less_equal(whole, scale.farthest))
    time = pc.multiply(pc.divide(pc.if_else(near, whole, None), scale.divisor), scale.factor)
    return pc.add(time if fraction is None else pc.add(time, fraction), scale.start).cast(TIME)


def _scaled(counts: pa.Array, factor: int) -> pa.Array:
    """Return times that are counted from 1970 in units of `factor` microseconds. Too large counts do not overflow."""
    first, last = FIRST_TIME // factor - 1, END_OF_TIMES // factor
    within = pc.max_element_wise(pc.min_element_wise(counts, last, skip_nulls=False), first, skip_nulls=False)
    return pc.multiply(within, factor).cast(TIME)


def _written_times(text: pa.Array) -> pa.Array:
    for pattern, replacement in BASIC_FORMS:
        text = pc.replace_substring_regex(text, pattern, replacement)
    parts = pc.extract_regex(text, WRITTEN_TIME)
    valid = parts.is_valid().to_numpy(zero_copy_only=False)
    date, is_date = _written_dates(parts)
    hour, minute, second = (_digits(parts.field(name)) for name in ("hour", "minute", "second"))
    fraction = _digits(pc.utf8_slice_codeunits(pc.utf8_rpad(parts.field("fraction"), 6, "0"), 0, 6))
    is_leap = second == 60
    second[is_leap] = 59
    time_of_day = ((hour * 60 + minute) * 60 + second) * 1_000_000 + fraction
    is_time = (hour <= 23) & (minute <= 59) & (second <= 59) | (hour == 24) & (time_of_day == DAY)
    valid &= is_date & is_time
    time = date * DAY + time_of_day
    zones = pc.fill_null(parts.field("zone"), "").dictionary_encode()
    zone = zones.indices.to_numpy()
    for number, name in enumerate(zones.dictionary.to_pylist()):
        offset, rows = zone_offset(name), np.flatnonzero(zone == number)
        if offset is None:
            valid[rows] = False
        elif isinstance(offset, int):
            time[rows] -= offset
        else:
            rows = rows[valid[rows]]
            time[rows] = [_in_region(int(local), offset) for local in time[rows]]
    # A leap second is read as the second before it, which is the last of the same UTC day, so the day stays the same.
    valid &= ~is_leap | (time // 1_000_000 % 86_400 == 86_399)
    return pa.array(time, mask=~valid).cast(TIME)


def _written_dates(parts: pa.StructArray) -> tuple[Any, Any]:
    """Return calendar, ordinal and week dates as days since 1970, and whether each date exists."""
    year, month, day, ordinal, week, weekday = (
        _digits(parts.field(name)) for name in ("year", "month", "day", "ordinal", "week", "weekday")
    )
    by_week, by_ordinal = week + weekday > 0, pc.greater(pc.utf8_length(parts.field("ordinal")), 0)
    by_ordinal = pc.fill_null(by_ordinal, False).to_numpy(zero_copy_only=False)
    months = ((year - 1970) * 12 + np.where(by_week | by_ordinal, 0, month - 1)).astype("datetime64[M]")
    first = months.astype("datetime64[D]").astype(np.int64)
    after_month = (months + 1).astype("datetime64[D]").astype(np.int64) - first
    after_year = (months + 12).astype("datetime64[D]").astype(np.int64) - first
    # The 4th of January is in the first ISO week, and a week's Thursday is in the week's year.
    # 1970 began on a Thursday.
    monday = first + 3 - (first + 6) % 7
    thursday = monday + 7 * (week - 1) + 3
    exists = (month >= 1) & (month <= 12) & (day >= 1) & (day <= after_month)
    exists = np.where(by_ordinal, (ordinal >= 1) & (ordinal <= after_year), exists)
    exists = np.where(by_week, (week >= 1) & (thursday < first + after_year), exists)
    date = first + np.where(by_ordinal, ordinal, day) - 1
    return np.where(by_week, thursday - 4 + weekday, date), exists


def _digits(text: pa.Array) -> Any:
    """Return texts of digits as numpy integers; an empty text and null become 0."""
    return pc.if_else(pc.equal(text, ""), "0", text).fill_null("0").cast(pa.int64()).to_numpy().copy()


def _in_region(local: int, region: ZoneInfo) -> int:
    """Return the UTC time of a local time, in microseconds. If two are possible, it is the earlier one, as in Java."""
    if not FIRST_TIME <= local < END_OF_TIMES:
        return local
    time = (_EPOCH + dt.timedelta(microseconds=local)).replace(tzinfo=region)
    offset = time.utcoffset() or dt.timedelta()
    return local - offset // dt.timedelta(microseconds=1)
