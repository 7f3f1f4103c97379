"""Finds the files of an input and their columns, before any engine reads them.

Only the footers of parquet files are read here, so that a wrong path or type is reported at once, by name. CSV files
are checked as a whole, because no reader reports the faults of their text. The engines read plain CSV and flat parquet;
`record_files` reads all other files.
"""

from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import pyarrow as pa

from graph_build.config import CSV_KEYS, FileFormat, InputConfig, TableInput
from graph_build.errors import GraphInputError
from graph_build.ingest.compressed import open_bytes, without_compression
from graph_build.ingest.contract import REQUIRED, Table, check_columns, column_kinds, mapped
from graph_build.ingest.csv_files import PLAIN_CSV, CsvLayout, csv_layout, dialect_of
from graph_build.ingest.fields import POSITION, ROW, Fields, column_of, fields_of, split_path
from graph_build.ingest.folders import folder_columns
from graph_build.ingest.json_files import json_types, keys_of
from graph_build.ingest.lake_tables import inner_tables, lake_files, lake_format, outer_table
from graph_build.ingest.nested_rows import can_follow, field_types, plain_type
from graph_build.ingest.parquet_files import parquet_types
from graph_build.ingest.record_files import RecordLayout
from graph_build.ingest.values import null_words
from graph_build.ingest.web_log import is_field, parse_line
from graph_build.paths import is_local, local_path
from graph_build.spark.storage import join, matches, names_below

Format = Literal["parquet", "csv", "json", "weblog", "table"]
# The beginning of a path that names a table of Spark.
SPARK_TABLE = "table:"
SparkSchema = Callable[[str], pa.Schema] | None
_EXPECTED = "expected parquet (.parquet), CSV (.csv, .tsv, .txt) or JSON lines (.json, .jsonl), perhaps .gz or .zst"
_CSV = (".csv", ".tsv", ".tab", ".txt")
_JSON = (".json", ".jsonl", ".ndjson")
# The ends of the names of other kinds of files. A file whose name has any other end may be parquet.
_OTHER_KINDS = """
    .avro .orc .feather .arrow .xls .xlsx .md .log .dat .sql .db .xml .html .gz .zip .bz2 .zst .xz .lz4 .7z .tar .tgz
"""
_PATTERN = {*"*?["}
_REMOTE_THREADS = 16


@dataclass(frozen=True)
class Source:
    """Files with the same columns and types, which are read together.

    Args:
        files: paths or URIs, in reading order; for a table of Spark, `table:NAME`.
        format: `parquet`, `csv`, `json`, `weblog` or `table`.
        types: the files' own column names with the Arrow types in which they are read (CSV, JSON, logs: all strings).
        order: the rank of the path among the inputs. It orders rows that tie in time.
        places: each file's rank among all files of its input, regardless of their columns.
        folders: for each file, the columns that the names of its folders hold, as text. All files have the same ones.
        csv: how the files are written; None if they are not CSV.
        records: how `record_files` reads the rows; None if the engines read the files (plain CSV, flat parquet).
    """

    files: tuple[str, ...]
    format: Format
    types: dict[str, pa.DataType]
    order: int
    places: tuple[int, ...]
    folders: tuple[dict[str, str | None], ...]
    csv: CsvLayout | None = None
    records: RecordLayout | None = None

    def has(self, name: str) -> bool:
        """Return whether the rows have a column: in the files, with more than nulls, or in the names of folders."""
        return self.has_own(name) or name in self.folders[0]

    def has_own(self, name: str) -> bool:
        """Return whether the files themselves have the column, and it holds more than nulls."""
        return name in self.types and not pa.types.is_null(self.types[name])


def find_sources(table: Table, paths: list[str], config: InputConfig, spark_schema: SparkSchema = None) -> list[Source]:
    """Find the files behind `paths`, check them against the contract, and group them by their columns and types.

    Args:
        table: which table they hold.
        paths: files or folders, local or as URIs, or patterns of them; `table:NAME` is a table of Spark.
        config: the `[input]` section.
        spark_schema: returns the columns of a table of Spark by its name; None where there is no Spark.

    Raises:
        GraphInputError: a path or file is missing or cannot be read, lacks a column, or has one of a wrong type. The
            message has a line for each fault of each file.
    """
    section: TableInput = getattr(config, table)
    groups: dict[tuple[object, ...], list[tuple[_File, int]]] = {}
    faults: list[tuple[str, str]] = []
    for order, path in enumerate(paths):
        if path.startswith(SPARK_TABLE):
            file = _inspect_table(table, path, config, spark_schema)
            groups[order, path] = [(file, 0)]
            continue
        for rank, (name, inspected) in enumerate(_inspected(table, files_of(table, path, section.format), config)):
            if isinstance(inspected, GraphInputError):
                faults += [(name, line) for line in str(inspected).splitlines()]
                continue
            types = tuple((column, str(type_)) for column, type_ in inspected.types.items())
            # Files of one folder that differ in their columns are read in groups.
            key = (order, inspected.format, inspected.csv, inspected.records, types, tuple(inspected.folders))
            groups.setdefault(key, []).append((inspected, rank))
    if faults:
        raise GraphInputError("\n".join(_once(faults)))
    return [
        Source(
            files=tuple(file.path for file, _ in files),
            format=files[0][0].format,
            types=files[0][0].types,
            order=key[0],  # type: ignore[arg-type]
            places=tuple(rank for _, rank in files),
            folders=tuple(file.folders for file, _ in files),
            csv=files[0][0].csv,
            records=files[0][0].records,
        )
        for key, files in groups.items()
    ]


def mixed_ids(table: Table, sources: list[Source], config: InputConfig) -> list[str]:
    """Return one warning for each id column that is text in one file and whole numbers in another.

    Args:
        table: which table the sources hold.
        sources: all sources of the table.
        config: the `[input]` section.
    """
    names, warnings = mapped(table, config), []
    for name, kind in column_kinds(table).items():
        first: dict[bool, tuple[str, pa.DataType]] = {}
        for source in sources:
            type_ = source.types.get(names[name])
            # Every column of CSV is text, numbers too.
            if kind == "id" and source.format == "parquet" and type_ is not None and not pa.types.is_null(type_):
                first.setdefault(pa.types.is_integer(type_), (source.files[0], type_))
        if len(first) == 2:
            (text, text_type), (whole, whole_type) = first[False], first[True]
            warnings.append(
                f"column {names[name]!r} of {table} is {text_type} in {text} and {whole_type} in {whole}; ids are "
                f"compared as text, so that 7 is '7' but neither '007' nor 'item-7': are these the same ids?"
            )
    return warnings


def files_of(table: Table, path: str, format_: FileFormat | None = None) -> list[str]:
    """Return a file itself, or the files of a folder or pattern without hidden ones, in the order of `names_below`.

    A path that exists as it is written is no pattern. For a Delta or Iceberg table, they are the files in force.

    Args:
        table: which table they hold, for the message.
        path: a file or folder, or a pattern, local or as a URI.
        format_: the configured format, if there is one.

    Raises:
        GraphInputError: the path does not exist or cannot be read, is not of the configured format (Delta, Iceberg),
            holds no file, or holds a Delta or Iceberg table or is a part of one.
    """
    try:
        names = names_below(path)
        roots = matches(path) if names is None and _PATTERN & {*path} else []
        roots = [root for root in roots if not _is_hidden(root.rpartition("/")[2])]
    except Exception as error:  # every store has errors of its own
        raise GraphInputError(f"{path}: {table} cannot be read ({str(error).partition(chr(10))[0]})") from error
    if roots:
        # A folder and a file in it may both match.
        return list(dict.fromkeys(file for root in roots for file in files_of(table, root, format_)))
    if names is None:
        if _PATTERN & {*path}:
            raise GraphInputError(f"{path}: no file or folder of {table} matches the pattern; check the path")
        raise GraphInputError(f"{path}: the {table} file or folder does not exist; check the path")
    if (lake := lake_format(names)) is not None:
        return lake_files(table, path, lake)
    if format_ in ("delta", "iceberg"):
        raise GraphInputError(f"{path}: {table} are no {format_.title()} table; correct [input.{table}] format")
    if inner := inner_tables(names):
        raise GraphInputError(f"{path}: the folder holds the table {join(path, inner[0])}; give each table by itself")
    if (outer := outer_table(path)) is not None:
        raise GraphInputError(
            f"{path}: lies in the table {outer}, of which not every file is in force; give the table itself"
        )
    files = [_joined(path, name) for name in names if not _is_hidden(name)]
    if not files:
        raise GraphInputError(f"{path}: the {table} folder holds no file; {_EXPECTED}")
    return files


def expanded(path: str, files: list[str]) -> list[str]:
    """Return the path itself, or the files behind it if it is a pattern.

    Args:
        path: a file or folder, or a pattern.
        files: the files behind it.
    """
    is_pattern = bool(_PATTERN & {*path}) and not any(file.startswith(path.rstrip("/")) for file in files)
    return files if is_pattern else [path]


def _joined(root: str, name: str) -> str:
    if is_local(root):
        return str(Path(local_path(root)) / name)
    return join(root, name) if name else root


@dataclass(frozen=True)
class _File:
    path: str
    format: Format
    types: dict[str, pa.DataType]
    folders: dict[str, str | None] = field(default_factory=dict)
    csv: CsvLayout | None = None
    records: RecordLayout | None = None


def _once(faults: list[tuple[str, str]]) -> list[str]:
    """Return the faults of files. A fault that several files have is listed once, with the number of these files."""
    lines: dict[str, list[str]] = {}
    for file, line in faults:
        lines.setdefault(line.removeprefix(f"{file}: "), []).append(line)
    return [of[0] + (f" (and {len(of) - 1:,} more files)" if of[1:] else "") for of in lines.values()]


def _inspected(table: Table, files: list[str], config: InputConfig) -> Iterable[tuple[str, "_File | GraphInputError"]]:
    """Return each file with its description, or with the error that says what is wrong with it."""

    def inspect(file: str) -> "tuple[str, _File | GraphInputError]":
        try:
            return file, _inspect(table, file, config)
        except GraphInputError as error:
            return file, error

    if is_local(files[0]):
        return map(inspect, files)
    with ThreadPoolExecutor(_REMOTE_THREADS) as threads:  # each file costs some waiting for the store
        return list(threads.map(inspect, files))


def _inspect(table: Table, file: str, config: InputConfig) -> _File:
    features = config.items.features if table == "items" else ()
    # Values in the names of folders are text, as in CSV.
    columns = {name: name for name in features} | mapped(table, config)
    words = {own_name: null_words(name, "csv", config) for name, own_name in columns.items()}
    folders = folder_columns(table, file, words)
    format_ = _format_of(table, file, getattr(config, table))
    inspect = _INSPECT[format_]
    inspected, types = inspect(table, file, config)
    _check(table, file, dict.fromkeys(folders, pa.string()) | types, config)
    return replace(inspected, folders=folders)


def _check(table: Table, file: str, types: dict[str, pa.DataType], config: InputConfig) -> None:
    contract = mapped(table, config)
    constants = dict.fromkeys((contract[name] for name in getattr(config, table).constants), pa.string())
    check_columns(table, file, constants | types, config)


def _format_of(table: Table, file: str, section: TableInput) -> Format:
    """Return the configured format, or the one that the file's name shows."""
    if section.format is not None:
        return section.format if section.format in ("csv", "json", "weblog") else "parquet"
    name = without_compression(file.rpartition("/")[2])
    if name.endswith(_JSON):
        return "json"
    is_csv = any(getattr(section, key) != type(section).model_fields[key].default for key in CSV_KEYS)
    if name.endswith(_CSV) or (is_csv and not name.endswith(".parquet")):
        return "csv"
    if other := next((end for end in _OTHER_KINDS.split() if file.lower().endswith(end)), None):
        raise GraphInputError(
            f"{file}: {table} cannot be read from a {other} file; {_EXPECTED}; if it is one of these under another "
            f'name, set [input.{table}] format = "csv" or "json"'
        )
    return "parquet"


Inspected = tuple[_File, dict[str, pa.DataType]]


def _inspect_csv(table: Table, file: str, config: InputConfig) -> Inspected:
    """Return how to read a CSV file, and the types of its columns for the check."""
    dialect = dialect_of(file, getattr(config, table))
    layout = csv_layout(table, file, config.encoding, dialect)
    # Columns without a name, such as the row numbers that pandas writes, are left out.
    types = {name: pa.string() for name in layout.header if name}
    fields = fields_of(table, config, config.null_words)
    if dialect == PLAIN_CSV and not file.lower().endswith(".zst") and not _needs_records(fields, types):
        return _File(file, "csv", types, csv=layout), types
    read = field_types(table, file, pa.schema(list(types.items())), fields)
    return _file_of_records(file, "csv", fields, dict.fromkeys(read, pa.string()), layout), types | read


def _inspect_json(table: Table, file: str, config: InputConfig) -> Inspected:
    """Return how to read a file of JSON lines (as text), and the types of its columns for the check."""
    texts = {own for name, own in mapped(table, config).items() if column_kinds(table)[name] == "text"}
    fields = fields_of(table, config)
    types = json_types(table, file, fields, texts)
    inspected = _file_of_records(file, "json", fields, dict.fromkeys(types, pa.string()))
    names = mapped(table, config)
    if all(names[name] in types for name in REQUIRED[table]):
        return inspected, types
    return inspected, dict.fromkeys(keys_of(table, file), pa.string()) | types  # for the message


def _inspect_web_log(table: Table, file: str, config: InputConfig) -> Inspected:
    """Return how to read the log of a web server (as text), and the types of its columns for the check."""
    try:
        with open_bytes(file) as opened:
            lines = [line for line in opened.read(1 << 16).splitlines() if line.strip()]
    except (OSError, EOFError, pa.ArrowException) as error:
        raise GraphInputError(f"{file}: {table} cannot be read ({error})") from error
    if not any(map(parse_line, lines[:20])):
        raise GraphInputError(
            f"{file}: the first lines of {table} are not those of a web server's log in the common or combined format; "
            "set another format"
        )
    fields = fields_of(table, config)
    known = [name for name, parts in fields.columns if all(is_field(part) or part in (POSITION, ROW) for part in parts)]
    types = dict.fromkeys(known, pa.string())
    return _file_of_records(file, "weblog", fields, types), types


def _inspect_parquet(table: Table, file: str, config: InputConfig) -> Inspected:
    """Return how to read a parquet file, and the types of its columns for the check."""
    fields = fields_of(table, config)
    features = config.items.features if table == "items" else ()
    names = {name for path in fields.paths if path not in features for name, _ in split_path(path)}
    return _typed(table, file, "parquet", fields, parquet_types(table, file, names, features))


def _inspect_table(table: Table, path: str, config: InputConfig, spark_schema: SparkSchema) -> _File:
    if spark_schema is None:
        raise GraphInputError(f"{path}: only Spark reads a table of Spark, and this command runs without; give files")
    schema = spark_schema(path.removeprefix(SPARK_TABLE))
    inspected, types = _typed(
        table, path, "table", fields_of(table, config), dict(zip(schema.names, schema.types, strict=True))
    )
    _check(table, path, types, config)
    return inspected


def _typed(table: Table, file: str, format_: Format, fields: Fields, types: dict[str, pa.DataType]) -> Inspected:
    """Return how to read a file whose columns have types, and these types for the check."""
    if not _needs_records(fields, types):
        return _File(file, format_, types), types
    schema = pa.schema(list(types.items()))
    read = field_types(table, file, schema, fields)
    is_typed = can_follow(schema, fields.only([name for name, type_ in read.items() if not pa.types.is_null(type_)]))
    plain = {
        name: type_ if pa.types.is_null(type_) else plain_type(type_) if is_typed else pa.string()
        for name, type_ in read.items()
    }
    return _file_of_records(file, format_, fields, plain), types | read


_INSPECT = {"csv": _inspect_csv, "json": _inspect_json, "weblog": _inspect_web_log, "parquet": _inspect_parquet}


def _file_of_records(
    file: str, format_: Format, fields: Fields, types: dict[str, pa.DataType], csv: CsvLayout | None = None
) -> _File:
    return _File(file, format_, types, csv=csv, records=RecordLayout(format_, fields, tuple(types.items()), csv))


def _needs_records(fields: Fields, names: Collection[str]) -> bool:
    """Return whether `record_files` must read the file.

    It must if a list is exploded, or if a column is joined from several, lies inside another, or is POSITION or ROW.
    """
    if fields.explode is not None or any(len(parts) > 1 for _, parts in fields.columns):
        return True
    special = {POSITION, ROW} & {path for _, parts in fields.columns for path in parts}
    return bool(special) or any(path not in names and column_of(path, names) for path in fields.paths)


def _is_hidden(path: str) -> bool:
    """Return whether a path below the given one is hidden, as in Spark: `_SUCCESS` is, but `_key=value` is not."""
    return any(part.startswith(".") or (part.startswith("_") and "=" not in part) for part in path.split("/"))
