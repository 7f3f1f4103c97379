"""Reads and checks events with only pyarrow, by the same contract as the Spark reader.

`lightsage evaluate` reads test events with this module: they fit in memory, and the host may have no Spark. One
table of test cases checks that both readers agree.
"""

import csv
import datetime as dt
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from graph_build.arrays import hash_text
from graph_build.config import InputConfig
from graph_build.day_zone import UTC
from graph_build.errors import GraphInputError
from graph_build.ingest.arrow_values import ARROW_TYPES, chunk, contract_types, read_value, with_point
from graph_build.ingest.contract import (
    FOLDER_MISMATCH,
    PLACE,
    SESSION_TYPES,
    column_kinds,
    mapped,
    needed_columns,
)
from graph_build.ingest.csv_rows import csv_blocks
from graph_build.ingest.files import Source, find_sources
from graph_build.ingest.parquet_files import open_parquet
from graph_build.ingest.record_files import FilePart, read_part
from graph_build.ingest.record_rows import FAULT
from graph_build.ingest.refusals import (
    IGNORED,
    REASON_COLUMNS,
    SHOWN_TYPES,
    check_bad_share,
    check_unit,
    commonest,
    event_faults,
    named_types,
)
from graph_build.ingest.values import null_words

# A session's key consists of its number and, in the last bits, its day. Days of the years 0 to 9999 fit.
_DAY_BITS, _DAY_SHIFT = 23, 1 << 22
_UNKNOWN = "unknown_type"  # the column of event types that no rule knows, as they were written


@dataclass(frozen=True)
class ArrowEvents:
    """Checked events.

    Args:
        rows: usable events in the order of the files: every column of the contract (null where the log has none) and
            the place of the row (`file`, `block`, `row`).
        read: number of all rows.
        ignored: number of events of types that mean nothing.
        left_out: number of events of our own ads that the configuration leaves out.
        refused: reason → number of refused rows.
        example: the commonest reason and one row that was refused for it; empty if no row is refused.
    """

    rows: pa.Table
    read: int
    ignored: int
    left_out: int
    refused: dict[str, int]
    example: str


def read_events(paths: list[str], config: InputConfig, now: dt.datetime | None = None) -> ArrowEvents:
    """Read events.

    Args:
        paths: files or folders, local or as URIs, or patterns of them.
        config: the `[input]` section: names of columns, event types, units of times, and what is accepted.
        now: events more than a day after this time are refused; by default the present.

    Raises:
        GraphInputError: a file does not fit the contract, more than `max_bad_share` of all rows are bad, or the times
            seem to have another unit.
    """
    sources = find_sources("events", paths, config)
    files = sorted(
        ((source.order << 32) + rank, path, source)
        for source in sources
        for path, rank in zip(source.files, source.places, strict=True)
    )
    rows = pa.concat_tables([_read_file(source, path, rank, config) for rank, path, source in files])
    reason = _reasons(rows, now or dt.datetime.now(dt.UTC))
    counts = reason.drop_null().value_counts().to_pylist()
    refused = {count["values"]: count["counts"] for count in counts}
    ignored = refused.pop(IGNORED, 0)
    source_of = {rank: (path, source) for rank, path, source in files}

    def example(name: str) -> str:
        if name == "type_unknown":
            return named_types(_unknown_types(rows.filter(pc.fill_null(pc.equal(reason, name), False))))
        return _example(rows, reason, name, source_of, config)

    check_bad_share("events", ", ".join(paths[:3]), len(rows) - ignored, refused, example, config.max_bad_share)
    good = pc.is_null(reason)
    times = pc.min_max(rows["timestamp"].cast(pa.int64()).filter(good)).as_py()
    if times["min"] is not None:
        unit = config.events.timestamp_unit
        check_unit(", ".join(paths[:3]), times["min"], times["max"], unit, now or dt.datetime.now(dt.UTC))
    left_out = 0
    if config.events.exclude_ad_events:
        of_ads = pc.and_(good, pc.is_valid(rows["ad_id"]))
        left_out = pc.sum(of_ads).as_py() or 0
        good = pc.and_not(good, of_ads)
    worst = commonest(refused) if refused else ""
    worst_example = f"{worst}: {example(worst)}" if worst else ""
    good_rows = rows.drop_columns([FAULT, _UNKNOWN]).filter(good)
    return ArrowEvents(good_rows, len(rows), ignored, left_out, refused, worst_example)


def loose_events(rows: pa.Table, zone: str = UTC) -> pa.Table:
    """Return events in the form that sessions are assembled from. Each distinct id becomes a number.

    The numbers are valid only in this table; the graph uses hashes instead. `session` is a number for each pair of
    session_id and day; for events without a session_id, for each pair of user_id and day. `id` is the number of the
    session_id, or null. If any session_id is missing, the numbers of users are hashes, so that a session that is cut
    from a user's events has the same number in every table. Impressions belong to no session and are left out.

    Args:
        rows: `ArrowEvents.rows`, or some of them.
        zone: the time zone of the days.
    """
    rows = _without_impressions(rows)
    kind = pc.index_in(rows["event_type"], pa.array(SESSION_TYPES)).cast(pa.int8())
    item_ids = pc.if_else(pc.equal(rows["event_type"], "search"), None, rows["item_id"])
    sources = rows["source_item_id"]
    items = pc.unique(pa.chunked_array([*item_ids.chunks, *sources.chunks], pa.string()))
    time = chunk(rows["timestamp"]).cast(pa.int64())
    local = time if zone == UTC else pc.local_timestamp(time.cast(pa.timestamp("us", zone))).cast(pa.int64())
    day = np.floor_divide(local.to_numpy(zero_copy_only=False), 86_400_000_000)
    country = pc.utf8_upper(rows["country"])
    session_id = _numbers(rows["session_id"])
    has_id = chunk(rows["session_id"]).is_valid().to_numpy(zero_copy_only=False)
    users = pc.coalesce(rows["user_id"], rows["session_id"])
    owner = np.where(has_id, session_id, -1 - _numbers(users))
    columns = {
        "session": pa.array((owner << _DAY_BITS) + day + _DAY_SHIFT),
        "id": pa.array(session_id, mask=~has_id),
        "day": pa.array(day.astype(np.int32)),
        "time": time,
        "type": kind,
        "user": pa.array(_numbers(users) if has_id.all() else _hashes(users)),
        "item_id": item_ids,
        "item": pc.index_in(item_ids, items).cast(pa.int64()),
        "source_id": sources,
        "source": pc.index_in(sources, items).cast(pa.int64()),
        "query": rows["query"],
        "sequence": rows["sequence"],
        "event": chunk(rows["event_id"]).dictionary_encode().indices.cast(pa.int64()),
        "asked": pc.is_valid(rows["request_id"]),
        "country": country,
        "content": pa.array(_content(rows)),
        **{name: rows[name] for name in PLACE},
    }
    return pa.table({name: chunk(column) for name, column in columns.items()})


def session_ids(rows: pa.Table, ids: pa.Array, sessions: pa.Array) -> pa.Array:
    """Return the session_id of each session that was assembled from `loose_events`, or its number if it has none.

    Args:
        rows: the events that `loose_events` was given.
        ids: (S,) int64, the sessions' `id`.
        sessions: (S,) int64, their `session`.
    """
    logged = pc.unique(_without_impressions(rows)["session_id"])
    return pc.coalesce(logged.take(ids), sessions.cast(pa.string()))


def _without_impressions(rows: pa.Table) -> pa.Table:
    return rows.filter(pc.not_equal(rows["event_type"], "impression")).combine_chunks()


def _read_file(source: Source, path: str, rank: int, config: InputConfig) -> pa.Table:
    """Return a file's rows under the contract's names and types, with places and `FAULT` (null for a good row)."""
    table = _columns(source, path, needed_columns("events", config))
    folders = source.folders[source.files.index(path)]
    columns: dict[str, Any] = {}
    fault = table[FAULT]
    unit, decimal = config.events.timestamp_unit, config.events.decimal
    for name, own_name in mapped("events", config).items():
        kind = column_kinds("events")[name]
        value = None
        if source.has_own(own_name):
            written = table[own_name]
            if decimal == "," and source.format == "csv" and kind in ("number", "integer"):
                written = with_point(written)
            value = read_value(written, kind, unit, null_words(name, source.format, config))
        if own_name in folders:
            folder_text = pa.chunked_array([pa.repeat(pa.scalar(folders[own_name], pa.string()), len(table))])
            of_folder = read_value(folder_text, kind, unit)
            if value is not None and kind != "time":  # a folder may name only the day of a time
                both = map(pc.utf8_lower, (value, of_folder)) if kind == "text" else (value, of_folder)
                differs = pc.fill_null(pc.not_equal(*both), False)
                fault = pc.coalesce(fault, pc.if_else(differs, FOLDER_MISMATCH, pa.scalar(None, pa.string())))
            value = of_folder if value is None else pc.coalesce(value, of_folder)
        if name in config.events.constants:
            constant = pa.chunked_array([pa.repeat(str(config.events.constants[name]), len(table))])
            value = pc.coalesce(*([] if value is None else [value]), read_value(constant, kind, unit))
        columns[name] = pa.nulls(len(table), ARROW_TYPES[kind]) if value is None else value
    written = columns["event_type"]
    columns["event_type"] = contract_types(written, config.events.types)
    columns[_UNKNOWN] = pc.if_else(pc.is_null(columns["event_type"]), written, None)
    position = (np.full(len(table), rank), np.zeros(len(table), np.int64), np.arange(len(table)))
    places = dict(zip(PLACE, map(pa.array, position), strict=True))
    return pa.table({**columns, **places, FAULT: fault})


def _columns(source: Source, path: str, needed: list[str]) -> pa.Table:
    """Return the needed columns that a file has, not yet converted, and `FAULT`. Columns of CSV are text."""
    names = [name for name in needed if source.has_own(name)]
    try:
        if source.records is not None or source.csv is not None:
            return _concatenated(source, path, names)
        with open_parquet(path) as file:
            columns = file.read(columns=names)
            n = file.metadata.num_rows
    except (pa.ArrowException, OSError, EOFError, ValueError, zlib.error, csv.Error) as error:
        raise GraphInputError(f"{path}: events cannot be read as {source.format} ({error})") from error
    return pa.table({**{name: columns[name] for name in names}, FAULT: pa.nulls(n, pa.string())})


def _concatenated(source: Source, path: str, names: list[str]) -> pa.Table:
    if source.records is not None:
        tables = read_part(FilePart(path), source.records, names)
    else:
        assert source.csv is not None
        tables = csv_blocks(path, source.csv, names)
    types = dict.fromkeys(names, pa.string()) if source.records is None else source.types
    schema = pa.schema([*((name, types[name]) for name in names), (FAULT, pa.string())])
    return pa.concat_tables([schema.empty_table(), *tables])


def _reasons(rows: pa.Table, now: dt.datetime) -> pa.ChunkedArray:
    """Return why each row is refused, null where it is not."""
    computed = rows.select(["session_id", "user_id", "event_type", "query", "item_id"]).append_column(
        "time", rows["timestamp"].cast(pa.int64())
    )
    faults = event_faults(ds.field, lambda column: column.is_null(), now)
    flags = ds.dataset(computed).to_table(columns=faults).combine_chunks()
    conditions = pa.StructArray.from_arrays([chunk(flags[name]) for name in faults], list(faults))
    return pa.chunked_array([pc.coalesce(chunk(rows[FAULT]), pc.case_when(conditions, *map(pa.scalar, faults)))])


def _example(
    rows: pa.Table,
    reason: pa.ChunkedArray,
    name: str,
    source_of: Mapping[int, tuple[str, Source]],
    config: InputConfig,
) -> str:
    """Describe one row that was refused for a reason: its file, its number, and the value that explains the reason."""
    first = pc.index(reason, name).as_py()
    rank, row = rows["file"][first].as_py(), rows["row"][first].as_py()
    path, source = source_of[rank]
    column = mapped("events", config).get(REASON_COLUMNS.get(name, ""))
    if column is None:
        return f"row {row + 1} of {path}"
    value = source.folders[source.files.index(path)].get(column)
    if source.has_own(column):
        scalar = _columns(source, path, [column])[column][row]
        try:
            value = scalar.as_py()
        except (OverflowError, ValueError):  # a time outside of Python's calendar
            value = scalar.value
    return f"{column} = {value!r} in row {row + 1} of {path}"


def _unknown_types(rows: pa.Table) -> dict[str, int]:
    """Return the commonest unknown types, as they were written, with the number of rows that have each of them."""
    counts = rows.group_by(_UNKNOWN).aggregate([([], "count_all")])
    counts = counts.sort_by([("count_all", "descending"), (_UNKNOWN, "ascending")])[:SHOWN_TYPES]
    return {row[_UNKNOWN] or "": row["count_all"] for row in counts.to_pylist()}


def _content(rows: pa.Table) -> Any:
    """Return a number for each event.

    Two events have the same number if, and only if, they agree in all columns except `event_id`.
    """
    content = np.zeros(len(rows), np.int64)
    for name in column_kinds("events"):
        if name == "event_id" or rows[name].null_count == len(rows):
            continue
        # Both factors are at most the number of rows, so that their product fits into int64.
        content = content * (len(rows) + 1) + _numbers(rows[name])
        content = np.unique(content, return_inverse=True)[1].astype(np.int64)
    return content


def _numbers(column: pa.ChunkedArray) -> Any:
    """Return the number of each row's value. Values and null are numbered in the order in which they first appear."""
    values = chunk(column).dictionary_encode(null_encoding="encode")
    return values.indices.to_numpy(zero_copy_only=False).astype(np.int64)


def _hashes(column: pa.ChunkedArray) -> Any:
    """Return the hash of each row's text; the column holds no nulls."""
    values = chunk(column).dictionary_encode()
    hashes = np.array([hash_text(text) for text in values.dictionary.to_pylist()], np.int64)
    return hashes[values.indices.to_numpy()]
