"""Opens checked files in Spark. Only the columns that are needed are read: from CSV by place, from parquet by name.

Spark infers nothing here: neither types, nor headers, nor columns from the names of folders, nor patterns in paths.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pyarrow as pa
from pyspark.sql import functions as F
from pyspark.sql import types as T

from graph_build.errors import GraphInputError
from graph_build.ingest.contract import is_list, is_text, value_type
from graph_build.ingest.files import Source
from graph_build.ingest.spark_values import scaled_time
from graph_build.ingest.values import SCALES
from graph_build.paths import is_local
from graph_build.spark.session import by_literal_name, reader

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

# How many values beyond the header's are read from a CSV row, to see whether there are any.
_SURPLUS = 8
_ENCODINGS = {"utf-8-sig": "UTF-8", "iso8859-1": "ISO-8859-1", "mac-roman": "x-MacRoman", "ascii": "US-ASCII"}
_INTEGERS = {"int8": "tinyint", "int16": "smallint", "int32": "int", "int64": "bigint"} | {
    "uint8": "smallint",
    "uint16": "int",
    "uint32": "bigint",
    "uint64": "decimal(20,0)",
}


@dataclass(frozen=True)
class Opened:
    """The rows of a source.

    Args:
        rows: one row per row of the files, with `path`, `file`, `block` and `row` for its place, and the columns below.
        own: the files' own columns by the log's names.
        folders: the columns of the folders by the log's names, as text.
        surplus: whether a row of CSV holds more values than the header names, other than blank ones; None for parquet.
    """

    rows: "DataFrame"
    own: "dict[str, Column]"
    folders: "dict[str, Column]"
    surplus: "Column | None"


def check_paths(source: Source) -> None:
    """Check that Spark can read files of these names.

    Raises:
        GraphInputError: a name holds a colon, which Hadoop takes for the end of a scheme.
    """
    for file in source.files:
        if is_local(file) and ":" in Path(file).name:
            raise GraphInputError(f"{file}: Spark cannot read a file with a colon in its name; rename it")


def open_source(spark: "SparkSession", source: Source, needed: list[str]) -> Opened:
    """Return the rows of a source, without reading them yet.

    Args:
        spark: the session to read in.
        source: the files.
        needed: the log's names of the columns to read; those that the files lack are left out.

    Raises:
        GraphInputError: Java does not know the encoding of a CSV file.
    """
    names = [name for name in needed if source.has_own(name)]
    read = _parquet if source.csv is None else _csv
    rows, surplus = read(spark, source, names)
    folders = list(source.folders[0])
    rows = _with_places(spark, rows, source)
    return Opened(
        rows,
        {name: F.col(f"c{n}") for n, name in enumerate(names)},
        {name: F.col(f"folder{n}") for n, name in enumerate(folders)},
        surplus,
    )


def _parquet(spark: "SparkSession", source: Source, names: list[str]) -> "tuple[DataFrame, Column | None]":
    schema = T.StructType([T.StructField(name, _spark_type(source.types[name])) for name in names])
    parquet = reader(spark).schema(schema)
    columns = [_plain(F.col(_quoted(name)), source.types[name]).alias(f"c{n}") for n, name in enumerate(names)]
    columns += [_path(), F.lit(0).cast("bigint").alias("block"), F.col("_metadata.row_index").alias("row")]
    return by_literal_name(source.files, lambda files: parquet.parquet(*files).select(*columns)), None


def _csv(spark: "SparkSession", source: Source, names: list[str]) -> "tuple[DataFrame, Column | None]":
    layout = source.csv
    assert layout is not None
    width = len(layout.header)
    schema = T.StructType([T.StructField(f"v{n}", T.StringType()) for n in range(width + _SURPLUS)])
    whole = layout.has_line_breaks or layout.encoding.startswith(("utf-16", "utf-32"))
    csv = (
        reader(spark)
        .schema(schema)
        .option("header", True)
        .option("escape", '"')
        .option("encoding", _java_encoding(spark, source, layout.encoding))
        # A file is split at its lines, unless a value holds a line break or the encoding is UTF-16 or UTF-32.
        .options(**({"multiLine": "true", "lineSep": layout.line_end} if whole else {"multiLine": "false"}))
    )
    columns = [F.col(f"v{layout.header.index(name)}") for name in names]
    if whole:  # the last value then keeps the carriage return of its line
        columns = [F.regexp_replace(column, "\r$", "") for column in columns]
    columns = [column.alias(f"c{n}") for n, column in enumerate(columns)]
    surplus = F.concat_ws("", *(f"v{n}" for n in range(width, width + _SURPLUS))).rlike(r"\S")
    columns += [surplus.alias("surplus"), _path(), F.col("_metadata.file_block_start").alias("block")]
    columns += [F.monotonically_increasing_id().alias("row")]
    rows = by_literal_name(source.files, lambda files: csv.csv(files).select(*columns))
    return rows, F.col("surplus")


def _path() -> "Column":
    return F.regexp_replace("_metadata.file_path", "^file:/+", "/").alias("path")


def _with_places(spark: "SparkSession", rows: "DataFrame", source: Source) -> "DataFrame":
    """Add `file`, the rank of each row's file among all files of the input, and the columns of its folders."""
    first = source.order << 32
    place_of = {_as_spark_lists(file): n for n, file in enumerate(source.files)}
    names = [f"folder{n}" for n in range(len(source.folders[0]))]
    if len(source.files) == 1:
        literals = [F.lit(value).cast("string") for value in source.folders[0].values()]
        return rows.select(
            "*",
            F.lit(first + source.places[0]).alias("file"),
            *(value.alias(name) for value, name in zip(literals, names, strict=True)),
        )
    table = []
    for path in (re.sub("^file:/+", "/", path) for path in rows.inputFiles()):
        n = place_of[unquote(path)]
        table.append((path, first + source.places[n], *source.folders[n].values()))
    schema = ", ".join(["path string", "file bigint", *(f"{name} string" for name in names)])
    return rows.join(F.broadcast(spark.createDataFrame(table, schema)), "path", "left")


def _as_spark_lists(file: str) -> str:
    return str(Path(file).absolute()) if is_local(file) else file


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _spark_type(type_: pa.DataType) -> "T.DataType":
    """Return the type by which Spark reads a column of parquet."""
    is_, type_ = pa.types, value_type(type_)
    if is_list(type_):
        return T.ArrayType(_spark_type(type_.value_type))
    if is_.is_timestamp(type_) and type_.unit != "us":
        # `spark.session` sets nanosAsLong. Milliseconds that do not fit into microseconds make Spark
        # fail if it reads them as times.
        return T.LongType()
    if is_.is_timestamp(type_):
        return T.TimestampType() if type_.tz else T.TimestampNTZType()
    if is_text(type_) or is_.is_null(type_):
        return T.StringType()
    if is_.is_date(type_):
        return T.DateType()
    if is_.is_decimal(type_):
        return T.DecimalType(type_.precision, type_.scale)
    if is_.is_float16(type_):
        return T.BinaryType()  # Spark has no type of its own for it
    if is_.is_boolean(type_):
        return T.BooleanType()
    simple = _INTEGERS.get(str(type_), str(type_))  # float and double have the same names
    return T.DataType.fromDDL(simple)


def _plain(column: "Column", type_: pa.DataType) -> "Column":
    """Return a column of parquet with the types that Spark cannot read turned into those that it can."""
    is_, type_ = pa.types, value_type(type_)
    if is_.is_timestamp(type_) and type_.unit == "ns":
        return F.timestamp_micros(F.call_function("div", column, F.lit(1000)))  # a double would lose a digit
    if is_.is_timestamp(type_) and type_.unit in ("s", "ms"):  # parquet holds seconds as milliseconds
        return scaled_time(column, SCALES["ms"].factor)
    if is_.is_float16(type_):
        return _half(column)
    if is_list(type_) and is_.is_float16(type_.value_type):
        return F.transform(column, _half)
    return column


def _half(bytes_: "Column") -> "Column":
    """Return the number of a half-precision float, which parquet holds in two bytes, the lower one first."""
    digits = F.hex(bytes_)
    bits = F.conv(F.concat(F.substring(digits, 3, 2), F.substring(digits, 1, 2)), 16, 10).cast("int")
    sign = F.when(bits >= 0x8000, -1.0).otherwise(1.0)
    exponent = F.shiftright(bits, 10).bitwiseAND(31)
    fraction = bits.bitwiseAND(1023) / 1024
    size = (
        F.when(exponent == 0, fraction * 2.0**-14)
        .when(exponent < 31, (1 + fraction) * F.pow(F.lit(2.0), exponent - 15))
        .when(fraction == 0, float("inf"))
        .otherwise(float("nan"))
    )
    return F.when(bytes_.isNotNull(), sign * size).cast("float")


def _java_encoding(spark: "SparkSession", source: Source, name: str) -> str:
    """Return Java's name of an encoding."""
    candidates = [_ENCODINGS.get(name, name), re.sub("^(utf-..)-", r"\1", name), name.replace("_", "-"), f"x-{name}"]
    charset = spark._jvm.java.nio.charset.Charset  # type: ignore[union-attr]
    known = next((candidate for candidate in candidates if charset.isSupported(candidate)), None)
    if known is None:
        raise GraphInputError(f"{source.files[0]}: Java does not know the encoding {name!r}; write the file in UTF-8")
    return known
