"""Reads the footers of parquet files: the columns, their types, and whether the needed ones can be read."""

from collections.abc import Collection

import pyarrow as pa
import pyarrow.parquet as pq

from graph_build.errors import GraphInputError
from graph_build.ingest.contract import Table, is_list
from graph_build.spark.storage import open_file

# Spark's own readers know all codecs except these.
_UNREADABLE_CODECS = ("BROTLI", "LZO")


def open_parquet(file: str) -> pq.ParquetFile:
    """Open a parquet file. INT96 times are read in microseconds: those in nanoseconds reach only to the year 2262.

    Args:
        file: a path or URI.
    """
    return pq.ParquetFile(open_file(file), coerce_int96_timestamp_unit="us")


def parquet_types(
    table: Table, file: str, contract: Collection[str], features: Collection[str]
) -> dict[str, pa.DataType]:
    """Return the columns of a parquet file with their types; an INT96 time is a timestamp in UTC.

    Args:
        table: which table the file holds, for the message.
        file: a path or URI.
        contract: the file's names of the contract's columns. A column of only nulls gets the type null.
        features: further columns that are read.

    Raises:
        GraphInputError: the file cannot be read as parquet, or a column that is read stands in it twice or is
            compressed with a codec that Spark does not know.
    """
    try:
        with open_parquet(file) as opened:
            schema, footer = opened.schema_arrow, opened.metadata
    except (pa.ArrowException, OSError, ValueError) as error:
        raise GraphInputError(f"{file}: {table} cannot be read, {_why(file, error)}") from error
    types = {field.name: field.type for field in schema}
    for name in {*contract, *features} & types.keys():
        if len(schema.get_all_field_indices(name)) > 1:
            raise GraphInputError(f"{file}: {table} have the column {name!r} twice; rename one")
        leaves = _leaves(footer, name)
        has_values = not (is_list(types[name]) and pa.types.is_null(types[name].value_type))  # pandas' empty lists
        if name in contract and (not has_values or (leaves and _is_all_null(footer, leaves[0]))):
            types[name] = pa.null()
            continue
        if leaves and footer.schema.column(leaves[0]).physical_type == "INT96":
            types[name] = pa.timestamp("us", "UTC")
        for leaf in leaves if footer.num_row_groups else ():
            if (codec := footer.row_group(0).column(leaf).compression) in _UNREADABLE_CODECS:
                raise GraphInputError(
                    f"{file}: column {name!r} of {table} is compressed with {codec}, which cannot be read; write it "
                    "with zstd or snappy"
                )
    return types


def _why(file: str, error: Exception) -> str:
    with open_file(file) as opened:
        head = opened.read(4)
    if not head:
        return "the file is empty"
    if head == b"PARE" or "encrypted" in str(error).lower():
        return "the parquet file is encrypted; write it without encryption"
    if head == b"PAR1":
        return f"the parquet file is damaged or cut off ({str(error).splitlines()[0]}); write it anew"
    return (
        f"it is not a parquet file ({str(error).splitlines()[0]}); expected parquet, or CSV with a header line and a "
        "name that ends in .csv"
    )


def _leaves(footer: pq.FileMetaData, name: str) -> list[int]:
    """Return the physical columns of a column: one, or several if it is a list or struct."""
    paths = [(i, footer.schema.column(i).path) for i in range(footer.num_columns)]
    return [i for i, path in paths if path == name] or [i for i, path in paths if path.startswith(f"{name}.")]


def _is_all_null(footer: pq.FileMetaData, leaf: int) -> bool:
    """Return whether the footer says that a column holds only nulls, so that it need not be read."""
    if not footer.num_rows:
        return False
    for group in range(footer.num_row_groups):
        chunk = footer.row_group(group).column(leaf)
        statistics = chunk.statistics
        if statistics is None or not statistics.has_null_count or statistics.null_count != chunk.num_values:
            return False
    return True
