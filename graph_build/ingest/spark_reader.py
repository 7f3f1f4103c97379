"""Reads checked files into Spark under the contract's names and types, one row per row of the log.

Beside the contract's columns every row carries its place in the input (`file`, `block`, `row`) and `raw`, the row as it
was written, for quarantine. The place orders rows that tie in time, in the same way however Spark splits the files.
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

import pyarrow as pa
from pyspark.sql import functions as F

from graph_build.config import InputConfig
from graph_build.errors import GraphInputError
from graph_build.ingest.contract import Kind, Table, check_columns, column_kinds, is_text, mapped, value_type
from graph_build.ingest.files import Source, local_sources
from graph_build.ingest.refusals import UNUSED
from graph_build.ingest.values import FARTHEST_TIME, UNITS, WRITTEN_NUMBER, WRITTEN_TIME, Unit
from graph_build.paths import is_local
from graph_build.spark.session import reader

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

SPARK_TYPES: dict[Kind, str] = {
    "id": "string",
    "text": "string",
    "time": "timestamp",
    "number": "double",
    "integer": "bigint",
    "vector": "array<float>",
    "words": "array<string>",
}
_JAVA_TIME = WRITTEN_TIME.replace("(?P<", "(?<")
# Spark reads neither a fraction after a comma nor an offset after a time without seconds, so these are rewritten.
_NO_SECONDS = r"^(\s*[\d-]+[T ]\d{1,2}:\d{1,2})( ?[A-Z+-].*)$"


def sources(spark: "SparkSession", table: Table, paths: list[str], config: InputConfig) -> list[Source]:
    """Return the checked files behind `paths`. Spark describes remote files; local ones are read by `local_sources`.

    Args:
        spark: the session that reads remote files.
        table: which table they hold.
        paths: files or folders, local or as URIs.
        config: the `[input]` section.

    Raises:
        GraphInputError: a path cannot be read, or its columns do not fit the contract.
    """
    checked: list[Source] = []
    for order, path in enumerate(paths):
        if is_local(path):
            local = local_sources(table, [path], config)
            for source in local:
                check_paths(source)
            checked += [replace(source, order=order) for source in local]
        else:
            checked.append(_remote(spark, table, path, order, config))
    return checked


def check_paths(source: Source) -> None:
    """Refuse names of files with a colon, which Spark cannot read.

    Raises:
        GraphInputError: a name holds one.
    """
    for file in source.files:
        if ":" in Path(file).name:
            raise GraphInputError(f"{file}: Spark cannot read a file with a colon in its name; rename it")


def present(table: Table, checked: list[Source], config: InputConfig) -> list[str]:
    """Return the contract columns that at least one source has with a type other than null.

    Args:
        table: which table the sources hold.
        checked: all its sources.
        config: the `[input]` section.
    """
    names = mapped(table, config)
    return [name for name in column_kinds(table) if any(_has(source, names[name]) for source in checked)]


def read(
    spark: "SparkSession", table: Table, checked: list[Source], config: InputConfig, reason: "Column"
) -> "DataFrame":
    """Return all rows of the sources: the contract's columns (null where absent), the row's place, `reason` and `raw`.

    A value that cannot be read becomes null, and `unreadable` names the first such column of an item or an ad; ids and
    texts that are blank become null.

    Args:
        spark: the session to read in.
        table: which table the sources hold.
        checked: all its sources.
        config: the `[input]` section.
        reason: an expression over the contract's columns: why a row is refused, null for a good row. Good events, and
            events of days that were not requested, get no `raw`, because there are too many of them.
    """
    frames = [_read_source(spark, table, source, config, reason) for source in checked]
    union = frames[0]
    for frame in frames[1:]:
        union = union.unionByName(frame, allowMissingColumns=True)
    return union


def read_ids(texts: "Column") -> "Column":
    """Return ids that were given as text, as they would be read from a log; null where nothing is left."""
    return _value(texts, "id", pa.string(), None)


class _Frame(NamedTuple):
    """The rows of one source as Spark reads them, and where in a file each row stands."""

    rows: "DataFrame"
    block: "Column"
    row: "Column"


def _read_source(
    spark: "SparkSession", table: Table, source: Source, config: InputConfig, reason: "Column"
) -> "DataFrame":
    frame = _open(spark, table, source)
    values, unreadable = _contract_columns(table, source, config)
    placed = frame.rows.select(
        *values,
        *_features(table, config),
        (F.coalesce(*unreadable) if unreadable else F.lit(None).cast("string")).alias("unreadable"),
        _raw_row(table, source, config).alias("raw_row"),
        F.regexp_replace("_metadata.file_path", "^file:/+", "/").alias("path"),
        frame.block.alias("block"),
        frame.row.alias("row"),
    )
    as_json = F.to_json(F.col("raw_row"))
    is_refused = F.col("reason").isNotNull() & ~F.col("reason").isin(*UNUSED)
    return (
        _with_file_rank(spark, placed, source, frame.rows.inputFiles())
        .withColumn("reason", reason)
        .withColumn("raw", F.when(is_refused, as_json) if table == "events" else as_json)
        .drop("raw_row", "path")
    )


def _open(spark: "SparkSession", table: Table, source: Source) -> _Frame:
    if source.format == "parquet":
        rows = reader(spark).parquet(*source.files)
        return _Frame(rows, F.lit(0).cast("bigint"), F.col("_metadata.row_index"))
    rows = (
        reader(spark)
        .option("header", True)
        .option("escape", '"')
        # A quoted title may hold a line break; an event log is big, and must stay splittable.
        .option("multiLine", table != "events")
        .csv(list(source.files))
    )
    return _Frame(rows, F.col("_metadata.file_block_start"), F.monotonically_increasing_id())


def _contract_columns(table: Table, source: Source, config: InputConfig) -> "tuple[list[Column], list[Column]]":
    """Return the columns of the contract, and for items and ads the names of values that cannot be read."""
    names = mapped(table, config)
    unit = config.events.timestamp_unit if table == "events" else None
    values, unreadable = [], []
    for name, kind in column_kinds(table).items():
        if not _has(source, names[name]):
            values.append(F.lit(None).cast(SPARK_TYPES[kind]).alias(name))
            continue
        column, type_ = F.col(f"`{names[name]}`"), source.types[names[name]]
        value = _value(column, kind, type_, unit)
        values.append(value.alias(name))
        if table != "events" and kind not in ("id", "text") and not _is_always_readable(type_, kind):
            is_written = F.trim(column.cast("string")) != ""
            unreadable.append(F.when(is_written & value.isNull(), f"{name}_unreadable"))
    return values, unreadable


def _has(source: Source, name: str) -> bool:
    return name in source.types and not pa.types.is_null(source.types[name])


def _features(table: Table, config: InputConfig) -> "list[Column]":
    """Return the configured item features under temporary names, which clash with no column used here."""
    if table != "items":
        return []
    known = column_kinds(table)
    return [
        F.col(f"`{name}`").alias(feature(rank)) for rank, name in enumerate(config.items.features) if name not in known
    ]


def feature(rank: int) -> str:
    """Return the temporary name of an item feature, made from its rank among the configured features."""
    return f"feature_{rank}"


def _raw_row(table: Table, source: Source, config: InputConfig) -> "Column":
    """Return the row as it was written. A raw user id must not leave the build, so it is hashed here, too."""
    user = mapped(table, config).get("user_id")
    columns = [
        (F.xxhash64(F.col(f"`{name}`").cast("string")) if name == user else F.col(f"`{name}`")).alias(name)
        for name in source.types
    ]
    return F.struct(*columns)


def _with_file_rank(spark: "SparkSession", placed: "DataFrame", source: Source, paths: list[str]) -> "DataFrame":
    """Add `file`, the rank of each row's file among all files of the input. `paths`: the files, as Spark names them."""
    first = source.order << 32
    files = sorted(re.sub("^file:/+", "/", path) for path in paths)
    ranks = {str(Path(file).absolute()): rank for file, rank in zip(source.files, source.places, strict=False)}
    ranked = [(path, first + ranks.get(unquote(path), n)) for n, path in enumerate(files)]
    if len(ranked) == 1:
        return placed.withColumn("file", F.lit(ranked[0][1]))
    return placed.join(F.broadcast(spark.createDataFrame(ranked, "path string, file bigint")), "path", "left")


def _is_always_readable(type_: pa.DataType, kind: Kind) -> bool:
    """Return whether every value of the type can be read as the kind."""
    type_ = value_type(type_)
    if kind in ("vector", "words"):  # lists; as text they are JSON, or words between separators
        return not is_text(type_)
    if kind == "time":
        return bool(pa.types.is_timestamp(type_) or pa.types.is_date(type_))
    return bool(pa.types.is_integer(type_) or (kind == "number" and pa.types.is_floating(type_)))


def _value(column: "Column", kind: Kind, type_: pa.DataType, unit: Unit | None) -> "Column":
    type_ = value_type(type_)
    if kind in ("id", "text"):
        trimmed = F.trim(column.cast("string"))
        return F.when(trimmed != "", trimmed)
    if kind == "time":
        return _time(column, type_, unit)
    if kind in ("number", "integer"):
        number = column.try_cast(SPARK_TYPES[kind])
        return F.when(column.rlike(WRITTEN_NUMBER), number) if kind == "number" and is_text(type_) else number
    if not is_text(type_):
        return column.cast(SPARK_TYPES[kind])
    if kind == "vector":
        return F.from_json(column, "array<float>")
    words = F.when(F.trim(column).startswith("["), F.from_json(column, "array<string>")).otherwise(
        F.split(column, r"[;,|]")
    )
    return F.when(F.trim(column) != "", words)


def _time(column: "Column", type_: pa.DataType, unit: Unit | None) -> "Column":
    if pa.types.is_timestamp(type_) and type_.unit == "ns":
        return F.timestamp_micros(
            F.call_function("div", column, F.lit(1000))
        )  # `/` would go through doubles, which lose a digit
    if pa.types.is_integer(type_) or (is_text(type_) and unit is not None):
        whole = column.try_cast("bigint")
        per_unit = UNITS[unit or "s"]
        farthest = FARTHEST_TIME // per_unit
        return F.when(whole.between(-farthest, farthest), F.timestamp_micros(whole * per_unit))
    if is_text(type_):
        written = F.regexp_replace(F.translate(column, ",", "."), _NO_SECONDS, "$1:00$2")
        time = F.coalesce(column.try_cast("timestamp"), written.try_cast("timestamp"))
        # Spark reads a bare "12:30" as a time of today, so a date is required.
        return F.when(column.rlike(_JAVA_TIME), time)
    return column.cast("timestamp")


def _remote(spark: "SparkSession", table: Table, path: str, order: int, config: InputConfig) -> Source:
    """Return a source outside this host, as Spark sees it."""
    from pyspark.sql.pandas.types import to_arrow_schema

    format_ = "csv" if path.endswith((".csv", ".csv.gz")) else "parquet"
    try:
        frame = reader(spark).option("header", True).format(format_).load(path)
    except Exception as error:
        raise GraphInputError(f"{path}: {table} cannot be read ({str(error).splitlines()[0]})") from error
    types = {field.name: field.type for field in to_arrow_schema(frame.schema)}
    check_columns(table, path, types, config)
    return Source((path,), format_, types, order)  # type: ignore[arg-type]
