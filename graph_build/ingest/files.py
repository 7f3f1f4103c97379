"""Finds the files of an input and their columns, before any engine reads them.

Of parquet only the footers are read here, so that a wrong path or type is reported at once, by name. CSV files are
checked as a whole, because no reader reports the faults of their text.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa

from graph_build.config import InputConfig
from graph_build.errors import GraphInputError
from graph_build.ingest.contract import Table, check_columns, column_kinds, mapped
from graph_build.ingest.csv_files import CsvLayout, csv_layout
from graph_build.ingest.folders import folder_columns
from graph_build.ingest.parquet_files import parquet_types
from graph_build.ingest.values import null_words
from graph_build.paths import is_local, local_path
from graph_build.spark.storage import join, names_below

Format = Literal["parquet", "csv"]
_EXPECTED = "expected parquet, or CSV with a header line and a name that ends in .csv or .csv.gz"
# Kinds of files that are no parquet, by the ends of their names; any other file may be.
_OTHER_KINDS = """
    .tsv .tab .txt .json .jsonl .ndjson .avro .orc .feather .arrow .xls .xlsx .md .log .sql .db .xml .html
    .gz .zip .bz2 .zst .xz .lz4 .7z .tar .tgz
"""
_REMOTE_THREADS = 16


@dataclass(frozen=True)
class Source:
    """Files with the same columns and types, which are read together.

    Args:
        files: paths or URIs, in reading order.
        format: `parquet` or `csv`.
        types: the files' own column names with their Arrow types (CSV: all strings).
        order: rank among the inputs, which orders rows that tie in time.
        places: each file's rank among all files of its input, regardless of their columns.
        folders: for each file, the columns that the names of its folders hold, as text; the same names for all files.
        csv: how the files are written; None for parquet.
    """

    files: tuple[str, ...]
    format: Format
    types: dict[str, pa.DataType]
    order: int
    places: tuple[int, ...]
    folders: tuple[dict[str, str | None], ...]
    csv: CsvLayout | None = None

    def has(self, name: str) -> bool:
        """Return whether the rows have a column, from the files (and not only nulls) or from the names of folders."""
        return self.has_own(name) or name in self.folders[0]

    def has_own(self, name: str) -> bool:
        """Return whether the column stands in the files themselves, and is more than nulls."""
        return name in self.types and not pa.types.is_null(self.types[name])


def find_sources(table: Table, paths: list[str], config: InputConfig) -> list[Source]:
    """Return the files behind `paths`, checked against the contract and grouped by their columns and types.

    Args:
        table: which table they hold.
        paths: files or folders, local or as URIs, of parquet or of CSV with a header line.
        config: the `[input]` section.

    Raises:
        GraphInputError: a path or file is missing or cannot be read, lacks a column, or has one of a wrong type.
    """
    groups: dict[tuple[object, ...], list[tuple[_File, int]]] = {}
    for order, path in enumerate(paths):
        for rank, file in enumerate(_inspected(table, files_of(table, path), config)):
            types = tuple((name, str(type_)) for name, type_ in file.types.items())
            # Files of one folder that differ in their columns are read in groups.
            key = (order, file.csv, types, tuple(file.folders))
            groups.setdefault(key, []).append((file, rank))
    return [
        Source(
            files=tuple(file.path for file, _ in files),
            format="parquet" if files[0][0].csv is None else "csv",
            types=files[0][0].types,
            order=key[0],  # type: ignore[arg-type]
            places=tuple(rank for _, rank in files),
            folders=tuple(file.folders for file, _ in files),
            csv=files[0][0].csv,
        )
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


def files_of(table: Table, path: str) -> list[str]:
    """Return a file itself, or the files of a folder in the order of `names_below`, without hidden ones.

    Args:
        table: which table they hold, for the message.
        path: a file or folder, local or as a URI.

    Raises:
        GraphInputError: the path does not exist or cannot be read, or the folder holds no file.
    """
    try:
        names = names_below(path)
    except Exception as error:  # every store has errors of its own
        raise GraphInputError(f"{path}: {table} cannot be read ({str(error).partition(chr(10))[0]})") from error
    if names is None:
        raise GraphInputError(f"{path}: the {table} file or folder does not exist; check the path")
    files = [_joined(path, name) for name in names if not _is_hidden(name)]
    if not files:
        raise GraphInputError(f"{path}: the {table} folder holds no file; expected parquet or CSV files in it")
    return files


def _joined(root: str, name: str) -> str:
    if is_local(root):
        return str(Path(local_path(root)) / name)
    return join(root, name) if name else root


@dataclass(frozen=True)
class _File:
    path: str
    types: dict[str, pa.DataType]
    folders: dict[str, str | None]
    csv: CsvLayout | None


def _inspected(table: Table, files: list[str], config: InputConfig) -> Iterable[_File]:
    def inspect(file: str) -> _File:
        return _inspect(table, file, config)

    if is_local(files[0]):
        return map(inspect, files)
    with ThreadPoolExecutor(_REMOTE_THREADS) as threads:  # each file costs some waiting for the store
        return list(threads.map(inspect, files))


def _inspect(table: Table, file: str, config: InputConfig) -> _File:
    own_names = mapped(table, config)
    features = config.items.features if table == "items" else ()
    # What the name of a folder holds is text, as in CSV.
    columns = {name: name for name in features} | own_names
    words = {own_name: null_words(name, "csv", config) for name, own_name in columns.items()}
    folders = folder_columns(table, file, words)
    layout = None
    name = file.rpartition("/")[2].lower()
    if name.endswith((".csv", ".csv.gz")):
        layout = csv_layout(table, file, config.encoding)
        # Columns without a name, such as the row numbers that pandas writes, are left out.
        types = {name: pa.string() for name in layout.header if name}
    elif other := next((end for end in _OTHER_KINDS.split() if name.endswith(end)), None):
        raise GraphInputError(f"{file}: {table} cannot be read from a {other} file; {_EXPECTED}")
    else:
        types = parquet_types(table, file, own_names.values(), features)
    check_columns(table, file, dict.fromkeys(folders, pa.string()) | types, config)
    return _File(file, types, folders, layout)


def _is_hidden(path: str) -> bool:
    """Return whether Spark, too, would pass over a path below the given one: `_SUCCESS`, but not `_key=value`."""
    return any(part.startswith(".") or (part.startswith("_") and "=" not in part) for part in path.split("/"))
