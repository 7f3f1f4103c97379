"""Reads checked files into Spark under the contract's names and types, one row per row of the log.

Besides the contract's columns every row has its place in the input (`file`, `block`, `row`) and, for quarantine, `raw`:
the row as it was written. The place orders rows that tie in time. The order is the same however Spark splits the files.
"""

from typing import TYPE_CHECKING

import pyarrow as pa
from pyspark.sql import functions as F

from graph_build.config import InputConfig, TableInput
from graph_build.ingest.contract import (
    FOLDER_MISMATCH,
    PLACE,
    Kind,
    Table,
    column_kinds,
    is_number,
    is_text,
    mapped,
    needed_columns,
    value_type,
)
from graph_build.ingest.files import Source, find_sources
from graph_build.ingest.refusals import UNREADABLE, UNUSED
from graph_build.ingest.spark_files import Opened, check_paths, open_source, table_schema
from graph_build.ingest.spark_values import SPARK_TYPES, bound, levels, read_value, with_point, written_text
from graph_build.ingest.values import END_OF_TIMES, FIRST_TIME, NO_END_FROM, NO_START_BEFORE, null_words

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession


def sources(table: Table, paths: list[str], config: InputConfig) -> list[Source]:
    """Return the checked files behind `paths`. Spark can read all of them.

    Args:
        table: which table they hold.
        paths: files or folders, local or as URIs, patterns of them, or `table:NAME`.
        config: the `[input]` section.

    Raises:
        GraphInputError: a path cannot be read, or its columns do not fit the contract.
    """
    checked = find_sources(table, paths, config, table_schema)
    for source in checked:
        check_paths(source)
    return checked


def present(table: Table, checked: list[Source], config: InputConfig) -> list[str]:
    """Return the contract's columns that are constant, or that at least one source has with a type other than null.

    Args:
        table: which table the sources hold.
        checked: all its sources.
        config: the `[input]` section.
    """
    names, constants = mapped(table, config), getattr(config, table).constants
    return [
        name for name in column_kinds(table) if name in constants or any(source.has(names[name]) for source in checked)
    ]


def read(
    spark: "SparkSession", table: Table, checked: list[Source], config: InputConfig, reason: "Column"
) -> "DataFrame":
    """Return all rows of the sources: the contract's columns (null where absent), the row's place, `reason` and `raw`.

    A value that cannot be read becomes null, and so do blank ids and texts. For items and ads, `unreadable` holds the
    reason of the first value that cannot be read, such as `price_unreadable`.

    Args:
        spark: the session to read in.
        table: which table the sources hold.
        checked: all its sources.
        config: the `[input]` section.
        reason: an expression over the contract's columns: why a row is refused, null for a good row. Good events, and
            events that are not used (UNUSED), get no `raw`, because there are too many of them.
    """
    features = {name: _common_type(name, checked) for name in _features(table, config)}
    frames = [_read_source(spark, table, source, config, reason, features) for source in checked]
    union = frames[0]
    for frame in frames[1:]:
        union = union.unionByName(frame, allowMissingColumns=True)
    return union


def read_ids(texts: "Column") -> "Column":
    """Return ids, which are given as text, as they would be read from a log; null if nothing is left of an id."""
    return written_text(texts)


def _read_source(
    spark: "SparkSession",
    table: Table,
    source: Source,
    config: InputConfig,
    reason: "Column",
    features: dict[str, str | None],
) -> "DataFrame":
    opened = open_source(spark, source, needed_columns(table, config))
    values, unreadable, faults = _contract_columns(table, opened, source, config)
    if opened.fault is not None:
        faults.insert(0, opened.fault)
    rows = opened.rows.select(
        *values,
        *(
            _feature(opened, name, type_, source, config).alias(feature(n))
            for n, (name, type_) in enumerate(features.items())
        ),
        _first(unreadable).alias("unreadable"),
        _first(faults).alias("fault"),
        _raw_row(table, opened, config).alias("raw_row"),
        *([] if opened.where is None else [opened.where.alias("where")]),
        *PLACE,
    ).withColumn("reason", reason)
    of_other_days = F.when(F.col("reason").isin(*UNUSED), F.col("reason"))
    rows = rows.withColumn("reason", F.coalesce(of_other_days, "fault", "reason"))
    as_json = F.to_json(F.col("raw_row"))
    if opened.where is not None:  # a row that cannot be read has no values
        as_json = F.when(F.col("reason") == UNREADABLE, F.to_json(F.struct("where"))).otherwise(as_json)
    is_refused = F.col("reason").isNotNull() & ~F.col("reason").isin(*UNUSED)
    raw = F.when(is_refused, as_json) if table == "events" else as_json
    return rows.withColumn("raw", raw).drop("raw_row", "fault", "where")


def _first(conditions: "list[Column]") -> "Column":
    """Return the value of the first condition that is not null."""
    return F.coalesce(*conditions) if conditions else F.lit(None).cast("string")


def _contract_columns(
    table: Table, opened: Opened, source: Source, config: InputConfig
) -> "tuple[list[Column], list[Column], list[Column]]":
    """Return the contract's columns, the reasons for unreadable values, and those for values unlike their folder's.

    A reason is null where it does not hold. Events have no reasons for unreadable values.
    """
    unit = config.events.timestamp_unit if table == "events" else None
    section: TableInput = getattr(config, table)
    values, unreadable, mismatches = [], [], []
    for name, own_name in mapped(table, config).items():
        kind = column_kinds(table)[name]
        written = [(opened.own[own_name], source.types[own_name])] if own_name in opened.own else []
        written = [(_text_or_own(x, type_, null_words(name, source.format, config)), type_) for x, type_ in written]
        if section.decimal == "," and source.format == "csv" and kind in ("number", "integer"):
            written = [(with_point(column), type_) for column, type_ in written]
        written += [(written_text(opened.folders[own_name]), pa.string())] if own_name in opened.folders else []
        has_both = len(written) == 2
        if name in section.constants:
            written.append((written_text(F.lit(str(section.constants[name]))), pa.string()))
        read = [read_value(column, kind, type_, unit) for column, type_ in written]
        missing = [value.isNull() for value in read]
        if kind == "time" and table == "ads":
            limited = [_within_calendar(name, value) for value in read]
            read = [value["time"] for value in limited]
            missing = [value["time"].isNull() & ~value["is_open"] for value in limited]
        value = F.coalesce(*read) if read else F.lit(None).cast(SPARK_TYPES[kind])
        if table == "items" and name == "category" and config.items.category_separator is not None:
            value = levels(value, config.items.category_separator)
        values.append(value.alias(name))
        if has_both and kind != "time":  # a folder may name only the day of a time
            own, of_folder = map(F.lower, read[:2]) if kind == "text" else read[:2]
            mismatches.append(F.when(own != of_folder, FOLDER_MISMATCH))
        for (column, type_), is_missing in zip(written, missing, strict=True):
            if table != "events" and kind not in ("id", "text") and not _is_always_readable(type_, kind):
                unreadable.append(F.when(column.isNotNull() & is_missing, f"{name}_unreadable"))
    return values, unreadable, mismatches


def _text_or_own(column: "Column", type_: pa.DataType, words: tuple[str, ...]) -> "Column":
    return written_text(column, words) if is_text(value_type(type_)) else column


def _within_calendar(name: str, time: "Column") -> "Column":
    """Return an ad's start or end as (time, is_open).

    `is_open` is true if the time means that there is no start or end. In this case, or if the time lies outside the
    calendar, `time` is null.
    """

    def limited(time: "Column") -> "Column":
        micros = F.unix_micros(time)
        is_open = F.coalesce(micros >= NO_END_FROM if name == "ends_at" else micros < NO_START_BEFORE, F.lit(False))
        within = F.when(~is_open & micros.between(FIRST_TIME, END_OF_TIMES - 1), time)
        return F.struct(within.alias("time"), is_open.alias("is_open"))

    return bound(time, limited)


def _features(table: Table, config: InputConfig) -> list[str]:
    """Return the configured features of items that the contract does not know."""
    known = column_kinds(table)
    return [name for name in config.items.features if name not in known] if table == "items" else []


def _common_type(name: str, checked: list[Source]) -> str | None:
    """Return the Spark type to which a feature is cast if its files differ in type; None if it is not cast."""
    types = [source.types.get(name, pa.string()) for source in checked]
    types = [value_type(type_) for type_ in types if not pa.types.is_null(type_)]
    if not types:
        return "string"
    if all(type_ == types[0] for type_ in types):
        return "double" if pa.types.is_uint64(types[0]) else None
    if all(pa.types.is_integer(type_) and not pa.types.is_uint64(type_) for type_ in types):
        return "bigint"
    return "double" if all(map(is_number, types)) else "string"


def _feature(opened: Opened, name: str, type_: str | None, source: Source, config: InputConfig) -> "Column":
    if name in opened.own:
        column = _text_or_own(opened.own[name], source.types[name], null_words(name, source.format, config))
        if config.items.decimal == "," and source.format == "csv":
            column = F.regexp_replace(column, r"^([+-]?\d+),(\d+)$", "$1.$2")
    else:
        column = written_text(opened.folders[name]) if name in opened.folders else F.lit(None)
    return column if type_ is None else column.cast(type_)


def feature(rank: int) -> str:
    """Return the temporary name of an item feature, made from its rank among the configured features."""
    return f"feature_{rank}"


def _raw_row(table: Table, opened: Opened, config: InputConfig) -> "Column":
    """Return the columns that are read, as written. Only the user id is hashed, because it must not leave the build."""
    user = mapped(table, config).get("user_id")
    columns = opened.folders | opened.own
    return F.struct(
        *(
            (F.xxhash64(column.cast("string")) if user in name.split(" + ") else column).alias(name)
            for name, column in columns.items()
        )
    )


def _is_always_readable(type_: pa.DataType, kind: Kind) -> bool:
    """Return whether every value of the type can be read as the kind."""
    type_ = value_type(type_)
    if kind in ("vector", "words"):  # as text, a list is JSON, or has separators between its elements
        return not is_text(type_)
    return kind != "time" and bool(pa.types.is_integer(type_) or (kind == "number" and pa.types.is_floating(type_)))
