"""Reads checked files into Spark under the contract's names and types, one row of the log a row.

Beside the contract's columns every row carries its place in the input (`file`, `block`, `row`), which orders rows that
tie in time the same way however Spark splits the files, and `raw`, the row as it was, for quarantine.
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pyarrow as pa
from pyspark.sql import functions as F

from graph_build.config import InputConfig
from graph_build.errors import GraphInputError
from graph_build.ingest.contract import (
    Kind,
    Source,
    Table,
    check_columns,
    column_kinds,
    local_sources,
    mapped,
)
from graph_build.paths import is_local

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

PLACE = ("file", "block", "row")

SPARK_TYPES: dict[Kind, str] = {
    "id": "string",
    "text": "string",
    "time": "timestamp",
    "number": "double",
    "integer": "bigint",
    "vector": "array<float>",
    "words": "array<string>",
}
_PER_SECOND = {"s": 1_000_000, "ms": 1_000, "us": 1}


def sources(spark: "SparkSession", table: Table, paths: list[str], config: InputConfig) -> list[Source]:
    """The checked files behind `paths`: local ones by their footers, remote ones through Spark."""
    found: list[Source] = []
    for rank, path in enumerate(paths):
        if is_local(path):
            local = local_sources(table, [path], config)
            found += [replace(source, order=rank) for source in local]
        else:
            found.append(_remote(spark, table, path, rank, config))
    return found


def present(table: Table, found: list[Source], config: InputConfig) -> list[str]:
    """The contract columns that at least one source has with a type other than null."""
    names = mapped(table, config)
    return [
        name
        for name in column_kinds(table)
        if any(names[name] in source.types and not pa.types.is_null(source.types[names[name]]) for source in found)
    ]


def read(
    spark: "SparkSession", table: Table, found: list[Source], config: InputConfig, reason: "Column"
) -> "DataFrame":
    """All rows of the sources: the contract's columns (null where absent), the row's place, `reason` and `raw`.

    A value that does not parse becomes null, and `unreadable` names the first such column of an item or an ad; ids and
    texts that are blank become null.

    Args:
        reason: why a row is refused, null for a good one, over the contract's columns. Of events, only refused
            rows get `raw`: there are too many of the others.
    """
    frames = [_read_one(spark, table, source, config, reason) for source in found]
    union = frames[0]
    for frame in frames[1:]:
        union = union.unionByName(frame, allowMissingColumns=True)
    return union


def _read_one(
    spark: "SparkSession", table: Table, source: Source, config: InputConfig, reason: "Column"
) -> "DataFrame":
    if source.format == "parquet":
        frame = spark.read.parquet(*source.files)
        block, row = F.lit(0).cast("bigint"), F.col("_metadata.row_index")
    else:
        frame = (
            spark.read.option("header", True)
            .option("escape", '"')
            # A quoted title may hold a line break; an event log is big, and must stay splittable.
            .option("multiLine", table != "events")
            .csv(list(source.files))
        )
        block, row = F.col("_metadata.file_block_start"), F.monotonically_increasing_id()
    names = mapped(table, config)
    unit = config.events.timestamp_unit if table == "events" else None
    columns, unreadable = [], []
    for name, kind in column_kinds(table).items():
        own = names[name]
        if own in source.types and not pa.types.is_null(source.types[own]):
            given = F.col(f"`{own}`")
            value = _value(given, kind, source.types[own], unit)
            if table != "events" and kind not in ("id", "text") and not _is_plain(source.types[own], kind):
                there = F.trim(given.cast("string")) != ""
                unreadable.append(F.when(there & value.isNull(), f"{name}_unreadable"))
        else:
            value = F.lit(None).cast(SPARK_TYPES[kind])
        columns.append(value.alias(name))
    if table == "items":
        taken = set(column_kinds(table))
        # Under names of their own: a shop's may be those of columns that come and go here.
        features = [(own, feature(place)) for place, own in enumerate(config.items.features) if own not in taken]
        columns += [F.col(f"`{own}`").alias(name) for own, name in features]
    # A raw user id must not leave the build, not even in a refused row.
    user = names.get("user_id")
    raw = [
        (F.xxhash64(F.col(f"`{own}`").cast("string")) if own == user else F.col(f"`{own}`")).alias(own)
        for own in source.types
    ]
    as_json = F.to_json(F.col("raw_row"))
    placed = frame.select(
        *columns,
        (F.coalesce(*unreadable) if unreadable else F.lit(None).cast("string")).alias("unreadable"),
        F.struct(*raw).alias("raw_row"),
        F.regexp_replace("_metadata.file_path", "^file:/+", "/").alias("path"),
        block.alias("block"),
        row.alias("row"),
    )
    first = source.order << 32
    files = sorted(re.sub("^file:/+", "/", path) for path in frame.inputFiles())
    places = {str(Path(file).absolute()): place for file, place in zip(source.files, source.places, strict=False)}

    def rank(path: str, otherwise: int) -> int:
        return places.get(unquote(path), otherwise)

    if len(files) == 1:
        placed = placed.withColumn("file", F.lit(first + rank(files[0], 0)))
    else:
        ranked = [(path, first + rank(path, n)) for n, path in enumerate(files)]
        ranks = spark.createDataFrame(ranked, "path string, file bigint")
        placed = placed.join(F.broadcast(ranks), "path", "left")
    return (
        placed.withColumn("reason", reason)
        .withColumn("raw", F.when(F.col("reason").isNotNull(), as_json) if table == "events" else as_json)
        .drop("raw_row", "path")
    )


def feature(place: int) -> str:
    """What an item feature is called until it is written, by its place among the configured ones."""
    return f"feature_{place}"


def _is_plain(found: pa.DataType, kind: Kind) -> bool:
    """Whether every value of the type can be read as the kind."""
    if pa.types.is_dictionary(found):
        found = found.value_type
    if kind in ("vector", "words"):  # lists; as text they are JSON, or words between separators
        return not (pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_string_view(found))
    if kind == "time":
        return bool(pa.types.is_timestamp(found) or pa.types.is_date(found))
    return bool(pa.types.is_integer(found) or (kind == "number" and pa.types.is_floating(found)))


def _value(column: "Column", kind: Kind, found: pa.DataType, unit: str | None) -> "Column":
    if pa.types.is_dictionary(found):
        found = found.value_type
    text = pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_string_view(found)
    if kind in ("id", "text"):
        trimmed = F.trim(column.cast("string"))
        return F.when(trimmed != "", trimmed)
    if kind == "time":
        return _time(column, found, unit, text=text)
    if kind in ("number", "integer"):
        return column.try_cast(SPARK_TYPES[kind])
    if not text:
        return column.cast(SPARK_TYPES[kind])
    if kind == "vector":
        return F.from_json(column, "array<float>")
    words = F.when(F.trim(column).startswith("["), F.from_json(column, "array<string>")).otherwise(
        F.split(column, r"[;,|]")
    )
    return F.when(F.trim(column) != "", words)


def _time(column: "Column", found: pa.DataType, unit: str | None, *, text: bool) -> "Column":
    if pa.types.is_timestamp(found) and found.unit == "ns":
        return F.timestamp_micros(F.call_function("div", column, F.lit(1000)))  # as doubles they would lose a digit
    if pa.types.is_integer(found) or (text and unit is not None):
        whole = column.try_cast("bigint")
        micros = F.timestamp_micros(whole * _PER_SECOND[unit or "s"])
        limit = 9_000_000_000_000_000 // _PER_SECOND[unit or "s"]  # a missing time as an integer is -2^63
        return F.when(whole.between(-limit, limit), micros)
    if text:
        # Spark reads a bare "12:30" as today: a date must be there.
        dated = F.trim(column).rlike(r"^\d{4}-\d{1,2}-\d{1,2}")
        return F.when(dated, F.trim(column).try_cast("timestamp"))
    return column.cast("timestamp")


def _remote(spark: "SparkSession", table: Table, path: str, rank: int, config: InputConfig) -> Source:
    """A source outside this host, known by what Spark sees of it."""
    from pyspark.sql.pandas.types import to_arrow_schema

    form = "csv" if path.endswith((".csv", ".csv.gz")) else "parquet"
    try:
        frame = spark.read.option("header", True).format(form).load(path)
    except Exception as error:
        raise GraphInputError(f"{path}: {table} cannot be read ({str(error).splitlines()[0]})") from error
    types = {field.name: field.type for field in to_arrow_schema(frame.schema)}
    check_columns(table, path, types, config)
    return Source((path,), form, types, rank)  # type: ignore[arg-type]
