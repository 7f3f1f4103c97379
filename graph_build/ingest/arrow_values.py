"""Turns columns of Arrow into the contract's kinds, by the grammar of `values`; `arrow_reader` uses it."""

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from graph_build.ingest.contract import Kind, is_text, value_type
from graph_build.ingest.values import (
    FARTHEST_TIME,
    UNITS,
    WRITTEN_INTEGER,
    WRITTEN_NUMBER,
    WRITTEN_TIME,
    Unit,
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
_LARGEST_INTEGER = np.iinfo(np.int64).max
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def chunk(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return a column in one piece."""
    if isinstance(column, pa.Array):
        return column
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def read_value(column: pa.ChunkedArray, kind: Kind, unit: Unit | None) -> pa.Array:
    """Return a column's values as the kind, null where one cannot be read.

    Args:
        column: a column of a type that the contract accepts for the kind.
        kind: id, text, time, number or integer.
        unit: the unit of times that are integers; None if times may not be integers.
    """
    type_ = value_type(column.type)
    values = chunk(column.cast(type_))
    if pa.types.is_null(type_):
        return values.cast(ARROW_TYPES[kind])
    if kind in ("id", "text"):
        text = pc.utf8_trim(values.cast(pa.string()), " ")
        return pc.if_else(pc.equal(text, ""), None, text)
    if kind == "time":
        return _times(values, unit)
    return _integers(values) if kind == "integer" else _doubles(values)


def _doubles(values: pa.Array) -> pa.Array:
    if not is_text(values.type):
        return values.cast(pa.float64(), safe=False)
    written = pc.if_else(pc.match_substring_regex(values, WRITTEN_NUMBER), pc.utf8_trim_whitespace(values), None)
    return pc.utf8_ltrim(written.cast(pa.string()), "+").cast(pa.float64())


def _integers(values: pa.Array) -> pa.Array:
    """Return int64. The fraction of a double is cut, because pandas writes integers with a gap as doubles."""
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


def _times(values: pa.Array, unit: Unit | None) -> pa.Array:
    """Return UTC times in microseconds; times without a zone are in UTC."""
    type_ = values.type
    if pa.types.is_timestamp(type_):
        plain = values.cast(pa.timestamp("us", type_.tz), safe=False)
        return plain.cast(TIME) if type_.tz else pc.assume_timezone(plain, "UTC")
    if pa.types.is_date(type_):
        return pc.assume_timezone(values.cast(pa.timestamp("us")), "UTC")
    if pa.types.is_integer(type_) or unit is not None:
        per_unit = UNITS[unit or "s"]
        farthest = FARTHEST_TIME // per_unit
        whole = _integers(values)
        near = pc.and_(pc.greater_equal(whole, -farthest), pc.less_equal(whole, farthest))
        return pc.multiply(pc.if_else(near, whole, None), per_unit).cast(TIME)
    return _written_times(values.cast(pa.string()))


def _written_times(text: pa.Array) -> pa.Array:
    parts = pc.extract_regex(text, WRITTEN_TIME)
    year, month, day, hour, minute, second = (
        _digits(parts.field(name)) for name in ("year", "month", "day", "hour", "minute", "second")
    )
    fraction = pc.utf8_slice_codeunits(pc.utf8_rpad(parts.field("fraction"), 6, "0"), 0, 6)
    months = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    first = months.astype("datetime64[D]").astype(np.int64)
    last = (months + 1).astype("datetime64[D]").astype(np.int64)
    valid = parts.is_valid().to_numpy(zero_copy_only=False)
    valid &= (month >= 1) & (month <= 12) & (day >= 1) & (day <= last - first)
    valid &= (hour <= 23) & (minute <= 59) & (second <= 59)
    seconds = ((first + day - 1) * 24 + hour) * 3600 + minute * 60 + second
    time = seconds * 1_000_000 + _digits(fraction)
    zones = pc.fill_null(parts.field("zone"), "").dictionary_encode()
    zone = zones.indices.to_numpy()
    for number, name in enumerate(zones.dictionary.to_pylist()):
        offset, rows = zone_offset(name), np.flatnonzero(zone == number)
        if offset is None:
            valid[rows] = False
        elif isinstance(offset, int):
            time[rows] -= offset
        else:
            rows = rows[valid[rows] & (year[rows] > 0)]
            time[rows] = [_in_region(int(local), offset) for local in time[rows]]
    return pa.array(time, mask=~valid).cast(TIME)


def _digits(text: pa.Array) -> Any:
    """Return digits as numpy integers, 0 for none."""
    return pc.if_else(pc.equal(text, ""), "0", text).fill_null("0").cast(pa.int64()).to_numpy().copy()


def _in_region(local: int, region: ZoneInfo) -> int:
    """Return the UTC time of a local time, in microseconds; of two possible times the earlier, as in Java."""
    time = (_EPOCH + dt.timedelta(microseconds=local)).replace(tzinfo=region)
    offset = time.utcoffset() or dt.timedelta()
    return local - offset // dt.timedelta(microseconds=1)
