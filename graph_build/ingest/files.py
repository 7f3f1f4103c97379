"""Finds the local files of an input and their columns, before any engine reads them.

Only file footers and header lines are read here, so that a wrong path or type is reported at once, by name.
"""

import csv
import gzip
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from graph_build.config import InputConfig
from graph_build.errors import GraphInputError
from graph_build.ingest.contract import Table, check_columns, column_kinds, mapped
from graph_build.paths import local_path

Format = Literal["parquet", "csv"]


@dataclass(frozen=True)
class Source:
    """Files with the same columns and types, which are read together.

    Args:
        files: paths or URIs, in reading order.
        format: `parquet` or `csv`.
        types: the files' own column names with their Arrow types (CSV: all strings).
        order: rank among the inputs, which orders rows that tie in time.
        places: each file's rank among all files of its input, regardless of their columns; empty for remote files.
    """

    files: tuple[str, ...]
    format: Format
    types: dict[str, pa.DataType]
    order: int
    places: tuple[int, ...] = ()


def local_sources(table: Table, paths: list[str], config: InputConfig) -> list[Source]:
    """Return the files behind `paths`, checked against the contract and grouped by their columns and types.

    Args:
        table: which table they hold.
        paths: local files or folders (`file:` URIs too), parquet or CSV with a header line.
        config: the `[input]` section.

    Raises:
        GraphInputError: a path or file is missing or unreadable, lacks a column, or has a column of a wrong type.
    """
    groups: dict[tuple[object, ...], list[tuple[str, int]]] = {}
    source_of: dict[tuple[object, ...], tuple[Format, dict[str, pa.DataType], int]] = {}
    for order, path in enumerate(paths):
        for place_in_input, file in enumerate(files_of(table, Path(local_path(path)))):
            format_, types = _columns(table, file)
            check_columns(table, str(file), types, config)
            # Files of one folder that differ in their columns are read in groups.
            key = (order, format_, tuple((name, str(type_)) for name, type_ in types.items()))
            groups.setdefault(key, []).append((str(file), place_in_input))
            source_of[key] = (format_, types, order)
    return [
        Source(tuple(file for file, _ in files), *source_of[key], tuple(rank for _, rank in files))
        for key, files in groups.items()
    ]


def mixed_ids(table: Table, sources: list[Source], config: InputConfig) -> list[str]:
    """Return one warning for each id column that is text in one file and whole numbers in another.

    Args:
        table: which table the sources hold.
        sources: all its files.
        config: the `[input]` section.
    """
    names, warnings = mapped(table, config), []
    for name, kind in column_kinds(table).items():
        first: dict[bool, tuple[str, pa.DataType]] = {}
        for source in sources:
            type_ = source.types.get(names[name])
            # What CSV calls text may be numbers.
            if kind == "id" and source.format == "parquet" and type_ is not None and not pa.types.is_null(type_):
                first.setdefault(pa.types.is_integer(type_), (source.files[0], type_))
        if len(first) == 2:
            (text, text_type), (whole, whole_type) = first[False], first[True]
            warnings.append(
                f"column {names[name]!r} of {table} is {text_type} in {text} and {whole_type} in {whole}; ids are "
                f"compared as text, so that 7 is '7' but neither '007' nor 'item-7': are these the same ids?"
            )
    return warnings


def files_of(table: Table, path: Path) -> Iterator[Path]:
    """Yield a file itself, or the files of a folder in the order of their names, without hidden ones.

    Args:
        table: which table they hold, for the message.
        path: a local file or folder.

    Raises:
        GraphInputError: the path does not exist, or the folder holds no file.
    """
    if path.is_file():
        yield path
        return
    if not path.is_dir():
        raise GraphInputError(f"{path}: the {table} file or folder does not exist; check the path")
    files = [file for file in sorted(walk(path)) if file.is_file() and not _is_hidden(file.relative_to(path))]
    if not files:
        raise GraphInputError(f"{path}: the {table} folder holds no file; expected parquet or CSV files in it")
    yield from files


def walk(folder: Path) -> Iterator[Path]:
    """Yield all files below a folder. Links to folders are followed, except back to a folder above."""
    for current, folders, names in os.walk(folder, followlinks=True):
        above = [Path(current).resolve(), *Path(current).resolve().parents]
        folders[:] = [name for name in folders if (Path(current) / name).resolve() not in above]
        yield from (Path(current) / name for name in names)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(("_", ".")) for part in path.parts)


def _columns(table: Table, file: Path) -> tuple[Format, dict[str, pa.DataType]]:
    """Return the format of a file, and its column names with their types."""
    if file.name.endswith((".csv", ".csv.gz")):
        # Columns without a name, such as the row numbers that pandas writes, are left out.
        return "csv", {name: pa.string() for name in _csv_header(table, file) if name}
    try:
        with pq.ParquetFile(file) as opened:
            schema, footer = opened.schema_arrow, opened.metadata
    except (pa.ArrowInvalid, OSError) as error:
        raise GraphInputError(
            f"{file}: {table} cannot be read, it is not a parquet file ({str(error).splitlines()[0]}); expected "
            "parquet, or CSV with a header line and a name that ends in .csv"
        ) from error
    return "parquet", {field.name: pa.null() if _is_all_null(footer, field.name) else field.type for field in schema}


def _is_all_null(footer: pq.FileMetaData, name: str) -> bool:
    """Return whether the footer says that a column holds only nulls, so that it need not be read."""
    leaves = [i for i in range(footer.num_columns) if footer.schema.column(i).path == name]
    if not leaves or not footer.num_rows:
        return False
    for group in range(footer.num_row_groups):
        chunk = footer.row_group(group).column(leaves[0])
        statistics = chunk.statistics
        if statistics is None or not statistics.has_null_count or statistics.null_count != chunk.num_values:
            return False
    return True


def _csv_header(table: Table, file: Path) -> list[str]:
    try:
        with open_csv(file) as lines:
            header = next(csv.reader(lines), [])
    except (UnicodeDecodeError, OSError, EOFError, csv.Error) as error:
        raise GraphInputError(f"{file}: {table} cannot be read as UTF-8 CSV ({error})") from error
    if repeated := [name for name in header if name and header.count(name) > 1]:
        raise GraphInputError(f"{file}: the header of {table} names {repeated[0]!r} twice; rename one")
    if not header:
        raise GraphInputError(f"{file}: the {table} file is empty; expected a CSV header line with the column names")
    return header


def open_csv(file: Path) -> Any:
    """Open a CSV file, compressed or not, as UTF-8 text; a byte-order mark is skipped."""
    open_text: Any = gzip.open if file.suffix == ".gz" else open
    return open_text(file, "rt", encoding="utf-8-sig", newline="")
