"""Opens checked files in Spark. Only the needed columns are read: from CSV by position, from parquet by name.

Spark infers nothing here: neither types, nor headers, nor columns from the names of folders, nor patterns in paths.
`record_files` reads the files that Spark cannot read as they are, on the executors, part by part.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
from pyspark.sql import functions as F
from pyspark.sql import types as T

from graph_build.errors import GraphInputError
from graph_build.ingest.contract import TOO_MANY_VALUES, is_list, is_text, value_type
from graph_build.ingest.files import SPARK_TABLE, Source
from graph_build.ingest.nested_rows import rows_of_columns
from graph_build.ingest.record_files import FilePart, in_types, needed_roots, parts_of, read_part
from graph_build.ingest.record_rows import FAULT
from graph_build.ingest.spark_values import scaled_time
from graph_build.ingest.values import SCALES
from graph_build.paths import is_local
from graph_build.spark.session import by_literal_name, reader

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

_MOST_TASKS = 10_000
# The number of values after the last column of the header that are read from a CSV row, to see if it has too many.
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
        rows: one row per row of the files, with its place in `file`, `block` and `row`, and the columns of `own` and
            `folders`.
        own: the log's name → the column, for columns in the files themselves.
        folders: the log's name → the column, as text, for columns from the names of folders.
        fault: why a row is refused before its values are checked, null where it is not; None if no row is refused.
        where: where a row with a fault stands, as text; None for files that Spark reads itself.
    """

    rows: "DataFrame"
    own: "dict[str, Column]"
    folders: "dict[str, Column]"
    fault: "Column | None"
    where: "Column | None"


def table_schema(name: str) -> pa.Schema:
    """Return the columns of a table of Spark, with their Arrow types.

    Args:
        name: the table's name, perhaps with the names of its catalogue and schema before it.

    Raises:
        GraphInputError: Spark has not been started, or has no such table.
    """
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession
    from pyspark.sql.pandas.types import to_arrow_schema

    spark = SparkSession.getActiveSession()
    if spark is None:
        raise GraphInputError(f"table:{name}: Spark has not been started; give files")
    try:
        return to_arrow_schema(spark.table(name).schema, timezone="UTC")
    except PySparkException as error:
        cause = str(error).partition("\n")[0]
        raise GraphInputError(f"table:{name}: Spark cannot read the table ({cause}); check its name") from None


def check_paths(source: Source) -> None:
    """Check that Spark can read files of these names.

    Raises:
        GraphInputError: a name holds a colon, which Hadoop takes for the end of a scheme.
    """
    for file in () if source.records is not None or source.format == "table" else source.files:
        if is_local(file) and ":" in Path(file).name:
            raise GraphInputError(f"{file}: Spark cannot read a file with a colon in its name; rename it")


def open_source(spark: "SparkSession", source: Source, needed: list[str]) -> Opened:
    """Return the rows of a source, without reading them yet.

    Args:
        spark: the session to read in.
        source: the files.
        needed: the log's names of the columns to read. Columns that the files lack are left out.

    Raises:
        GraphInputError: Java does not know the encoding of a CSV file.
    """
    names = [name for name in needed if source.has_own(name)]
    folders = list(source.folders[0])
    if source.format == "table":
        rows, fault = _table(spark, source, names)
    elif source.records is not None:
        rows, fault = _records(spark, source, names)
    else:
        rows, fault = (_parquet if source.csv is None else _csv)(spark, source, names)
        rows = _with_places(spark, rows, source)
    return Opened(
        rows,
        {name: F.col(f"c{n}") for n, name in enumerate(names)},
        {name: F.col(f"folder{n}") for n, name in enumerate(folders)},
        fault,
        F.col("place") if source.records is not None and source.format != "table" else None,
    )


def _records(spark: "SparkSession", source: Source, names: list[str]) -> "tuple[DataFrame, Column | None]":
    """Return rows with their places and the columns of their folders, read on the executors."""
    layout = source.records
    assert layout is not None
    folders = [f"folder{n} string" for n in range(len(source.folders[0]))]
    types = [_spark_type(source.types[name]).simpleString() for name in names]
    columns = [f"c{n} {type_}" for n, type_ in enumerate(types)]
    schema = ", ".join(
        [*columns, "fault string", "place string", "file bigint", "block bigint", "row bigint", *folders]
    )
    first = source.order << 32
    parts = [
        (part, first + rank, tuple(of_file.values()))
        for file, rank, of_file in zip(source.files, source.places, source.folders, strict=True)
        for part in parts_of(file, layout)
    ]

    def rows_of(numbers: "Iterator[pa.RecordBatch]") -> "Iterator[pa.RecordBatch]":
        for number in (number for batch in numbers for number in batch.column(0).to_pylist()):
            part, file, values = parts[number]
            row = 0
            for table in read_part(part, layout, names):
                n = len(table)
                ends = [
                    _faulty_places(table[FAULT], part, row),
                    pa.array(np.full(n, file)),
                    pa.array(np.full(n, part.start)),
                    pa.array(np.arange(row, row + n)),
                ]
                ends += [pa.repeat(pa.scalar(value, pa.string()), n) for value in values]
                arrays = [*(column.combine_chunks() for column in table.columns), *ends]
                yield from pa.table(arrays, [field.split(" ")[0] for field in schema.split(", ")]).to_batches()
                row += n

    # Each part is one task, unless there are very many parts.
    tasks = max(1, min(len(parts), _MOST_TASKS))
    return spark.range(0, len(parts), 1, tasks).mapInArrow(rows_of, schema), F.col("fault")


def _table(spark: "SparkSession", source: Source, names: list[str]) -> "tuple[DataFrame, Column | None]":
    """Return the rows of a table of Spark. Their places in the table are the same only within one job."""
    rows = spark.table(source.files[0].removeprefix(SPARK_TABLE))
    places = [F.lit(source.order << 32).alias("file"), F.lit(0).cast("bigint").alias("block")]
    places.append(F.monotonically_increasing_id().alias("row"))
    if source.records is None:
        columns = [F.col(_quoted(name)).alias(f"c{n}") for n, name in enumerate(names)]
        return rows.select(*columns, *places), None
    layout = source.records
    fields = layout.fields.only(names)
    types = [_spark_type(source.types[name]).simpleString() for name in names]
    schema = ", ".join(f"c{n} {type_}" for n, type_ in enumerate(types))

    def rows_of(batches: "Iterator[pa.RecordBatch]") -> "Iterator[pa.RecordBatch]":
        from pyspark import TaskContext

        first, prefix = 0, str(TaskContext.get().partitionId())  # type: ignore[union-attr]
        for batch in batches:
            table = in_types(rows_of_columns(pa.Table.from_batches([batch]), fields, prefix, first), layout, names)
            yield from table.select(names).rename_columns([f"c{n}" for n in range(len(names))]).to_batches()
            first += len(batch)

    roots = [F.col(_quoted(name)) for name in needed_roots(fields, rows.columns)]
    return rows.select(*roots).mapInArrow(rows_of, schema).select("*", *places), None


def _faulty_places(faults: pa.ChunkedArray, part: FilePart, first: int) -> pa.Array:
    """Return where each row with a fault stands; null for a good row."""
    if faults.null_count == len(faults):
        return pa.nulls(len(faults), pa.string())
    start = f", counted from byte {part.start}" if part.start else ""
    texts = [
        None if fault is None else f"row {first + n} of {part.file}{start}"
        for n, fault in enumerate(faults.to_pylist(), 1)
    ]
    return pa.array(texts, pa.string())


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
    if whole:  # in this case the last value keeps the carriage return of its line
        columns = [F.regexp_replace(column, "\r$", "") for column in columns]
    columns = [column.alias(f"c{n}") for n, column in enumerate(columns)]
    surplus = F.concat_ws("", *(f"v{n}" for n in range(width, width + _SURPLUS))).rlike(r"\S")
    columns += [
        F.when(surplus, TOO_MANY_VALUES).alias("fault"),
        _path(),
        F.col("_metadata.file_block_start").alias("block"),
    ]
    columns += [F.monotonically_increasing_id().alias("row")]
    rows = by_literal_name(source.files, lambda files: csv.csv(files).select(*columns))
    return rows, F.col("fault")


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
    """Return the type in which Spark reads a column of parquet."""
    is_, type_ = pa.types, value_type(type_)
    if is_list(type_):
        return T.ArrayType(_spark_type(type_.value_type))
    if is_.is_timestamp(type_) and type_.unit != "us":
        # `spark.session` sets nanosAsLong. If Spark reads milliseconds as times, it fails on those that do not fit into
        # microseconds.
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
    """Return a column of parquet; values that were read in a substitute type (`_spark_type`) are converted."""
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
    """Return the number of a half-precision float. Parquet holds it in two bytes, the lower byte first."""
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
