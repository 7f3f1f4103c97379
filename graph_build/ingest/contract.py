"""What the three input tables must look like, and the check of files against it.

The check reads only file footers and header lines, on the driver, before Spark starts any work: a wrong path or
a wrong type is answered at once and by name.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from graph_build.config import InputConfig
from graph_build.errors import GraphInputError
from graph_build.paths import local_path

_PATTERN = "[]{}*?\\"

Kind = Literal["id", "text", "time", "number", "integer", "vector", "words"]
Table = Literal["events", "items", "ads"]

REQUIRED: dict[str, dict[str, Kind]] = {
    "events": {"session_id": "id", "timestamp": "time", "event_type": "text", "item_id": "id"},
    "items": {"item_id": "id"},
    "ads": {"ad_id": "id", "item_id": "id", "campaign_id": "id"},
}
OPTIONAL: dict[str, dict[str, Kind]] = {
    "events": {
        "user_id": "id",
        "source_item_id": "id",
        "query": "text",
        "event_id": "id",
        "sequence": "integer",
        "request_id": "id",
        "position": "integer",
        "price": "number",
        "ad_id": "id",
        "country": "text",
    },
    "items": {"category": "text", "brand": "text", "price": "number", "title": "text", "embedding": "vector"},
    "ads": {
        "advertiser_id": "id",
        "starts_at": "time",
        "ends_at": "time",
        "status": "text",
        "countries": "words",
        "bid": "number",
        "version": "integer",
    },
}
EXPECTED: dict[Kind, str] = {
    "id": "string (or an integer)",
    "text": "string",
    "time": "timestamp, date, or a string holding one",
    "number": "double (any number)",
    "integer": "int64 (any integer)",
    "vector": "list<float>",
    "words": "list<string>",
}


@dataclass(frozen=True)
class Source:
    """Files of one schema that are read together.

    Args:
        files: paths or URIs, in reading order.
        format: `parquet` or `csv`.
        types: the file's own column name → its Arrow type (CSV: all strings).
        order: rank among the inputs, for the order of rows that tie in time.
        places: each file's place among all those of its input, whatever their schemas; of remote ones unknown.
    """

    files: tuple[str, ...]
    format: Literal["parquet", "csv"]
    types: dict[str, pa.DataType]
    order: int
    places: tuple[int, ...] = ()


def column_kinds(table: Table) -> dict[str, Kind]:
    """Every column that the contract knows for `table`, required ones first."""
    return REQUIRED[table] | OPTIONAL[table]


def mapped(table: Table, config: InputConfig) -> dict[str, str]:
    """Contract name → the log's own name, for every column of `table`.

    Raises:
        GraphInputError: the mapping names a column that the contract does not know.
    """
    columns = getattr(config, table).columns
    unknown = sorted(set(columns) - set(column_kinds(table)))
    if unknown:
        raise GraphInputError(
            f"[input.{table}.columns] maps {unknown[0]!r}, which is not a column of {table}; "
            f"known are {', '.join(column_kinds(table))}"
        )
    return {name: columns.get(name, name) for name in column_kinds(table)}


def local_sources(table: Table, paths: list[str], config: InputConfig) -> list[Source]:
    """The files behind `paths`, checked against the contract and grouped by schema.

    Args:
        table: which table they hold.
        paths: local files or folders (`file:` URIs too), parquet or CSV with a header line.

    Raises:
        GraphInputError: a path or file is missing, unreadable, lacks a column or holds a wrong type.
    """
    groups: dict[tuple[object, ...], list[tuple[str, int]]] = {}
    types_of: dict[tuple[object, ...], dict[str, pa.DataType]] = {}
    for rank, path in enumerate(paths):
        for place, file in enumerate(files_of(table, Path(local_path(path)))):
            form, types = _schema(table, file)
            check_columns(table, str(file), types, config)
            # A folder whose days differ in schema is read schema by schema.
            key = (rank, form, tuple((name, str(kind)) for name, kind in types.items()))
            groups.setdefault(key, []).append((str(file), place))
            types_of[key] = types
    return [
        Source(tuple(file for file, _ in found), key[1], types_of[key], key[0], tuple(at for _, at in found))  # type: ignore[arg-type]
        for key, found in groups.items()
    ]


def mixed_ids(table: Table, sources: list[Source], config: InputConfig) -> list[str]:
    """One sentence for each id column that is text in one file and whole numbers in another."""
    names, found = mapped(table, config), []
    for name, kind in column_kinds(table).items():
        first: dict[bool, tuple[str, pa.DataType]] = {}
        for source in sources:
            own = source.types.get(names[name])
            # What CSV calls text may be numbers.
            if kind == "id" and source.format == "parquet" and own is not None and not pa.types.is_null(own):
                first.setdefault(pa.types.is_integer(own), (source.files[0], own))
        if len(first) == 2:
            (text, text_type), (whole, whole_type) = first[False], first[True]
            found.append(
                f"column {names[name]!r} of {table} is {text_type} in {text} and {whole_type} in {whole}; they are "
                f"compared as text, so that 7 is '7' but neither '007' nor 'item-7': are these the same ids?"
            )
    return found


def check_columns(table: Table, file: str, types: dict[str, pa.DataType], config: InputConfig) -> None:
    """Raises GraphInputError when a required column is missing or a known one has a wrong type."""
    names = mapped(table, config)
    for name in REQUIRED[table]:
        if names[name] not in types:
            own = "" if names[name] == name else f" (mapped from {name!r})"
            raise GraphInputError(
                f"{file}: {table} need a column {names[name]!r}{own}, expected type "
                f"{EXPECTED[column_kinds(table)[name]]}; "
                f"found the columns {', '.join(types) or 'none'}. If the log calls it otherwise, say so: "
                f'[input.{table}.columns] {name} = "your_column"'
            )
    for name, kind in column_kinds(table).items():
        found = types.get(names[name])
        if found is None or _fits(kind, found):
            continue
        if kind == "time" and pa.types.is_integer(found):
            if table == "events" and config.events.timestamp_unit is not None:
                continue
            way_out = (
                'for integers since 1970 set [input.events] timestamp_unit = "s", "ms" or "us"'
                if table == "events"
                else "write it as a timestamp"
            )
        else:
            way_out = f'cast it, or map another column: [input.{table}.columns] {name} = "your_column"'
        raise GraphInputError(
            f"{file}: column {names[name]!r} of {table} has type {found}, expected {EXPECTED[kind]}; {way_out}"
        )
    if table == "items":
        for feature in config.items.features:
            if feature not in types:
                raise GraphInputError(
                    f"{file}: the configuration names the item feature {feature!r}, which is not among the columns "
                    f"{', '.join(types)}; correct [input.items] features"
                )


def files_of(table: Table, path: Path) -> Iterator[Path]:
    """A file itself, or the files of a folder in the order of their names, without hidden ones.

    Raises:
        GraphInputError: there is none.
    """
    if path.is_file():
        yield path
        return
    if not path.is_dir():
        raise GraphInputError(f"{path}: the {table} file or folder does not exist; check the path")
    found = False
    for file in sorted(_below(path)):
        inside = file.relative_to(path).parts
        if file.is_file() and not any(part.startswith(("_", ".")) for part in inside):
            found = True
            yield file
    if not found:
        raise GraphInputError(f"{path}: the {table} folder holds no file; expected parquet or CSV files in it")


def _below(folder: Path) -> Iterator[Path]:
    """All files below, those of linked folders too; a link back to a folder above is not followed."""
    for where, folders, names in os.walk(folder, followlinks=True):
        above = [Path(where).resolve(), *Path(where).resolve().parents]
        folders[:] = [name for name in folders if (Path(where) / name).resolve() not in above]
        yield from (Path(where) / name for name in names)


def _schema(table: Table, file: Path) -> tuple[str, dict[str, pa.DataType]]:
    if odd := sorted(({*str(file)} & set(_PATTERN)) | ({":"} & {*file.name})):
        raise GraphInputError(
            f"{file}: Spark cannot read a path with {' '.join(odd)} in it; name the file or folder otherwise"
        )
    if file.name.endswith((".csv", ".csv.gz")):
        # What has no name, such as the row numbers that pandas writes, has nothing to say here.
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
    """Whether the footer says that an optional column holds nothing: then nothing is spent on it."""
    at = [i for i in range(footer.num_columns) if footer.schema.column(i).path == name]
    if not at or not footer.num_rows:
        return False
    for group in range(footer.num_row_groups):
        chunk = footer.row_group(group).column(at[0])
        statistics = chunk.statistics
        if statistics is None or not statistics.has_null_count or statistics.null_count != chunk.num_values:
            return False
    return True


def _csv_header(table: Table, file: Path) -> list[str]:
    import csv
    import gzip

    open_text: Any = gzip.open if file.suffix == ".gz" else open
    try:
        with open_text(file, "rt", encoding="utf-8-sig", newline="") as lines:
            header = next(csv.reader(lines), [])
    except (UnicodeDecodeError, OSError, EOFError, csv.Error) as error:
        raise GraphInputError(f"{file}: {table} cannot be read as UTF-8 CSV ({error})") from error
    if twice := [name for name in header if name and header.count(name) > 1]:
        raise GraphInputError(f"{file}: the header of {table} names {twice[0]!r} twice; rename one")
    if not header:
        raise GraphInputError(f"{file}: the {table} file is empty; expected a CSV header line with the column names")
    return header


def _fits(kind: Kind, found: pa.DataType) -> bool:
    is_ = pa.types
    if is_.is_dictionary(found):
        found = found.value_type
    text = is_.is_string(found) or is_.is_large_string(found) or is_.is_string_view(found)
    whole = is_.is_integer(found)
    number = whole or is_.is_floating(found) or is_.is_decimal(found)
    if is_.is_null(found):
        return True
    if kind == "id":
        return text or whole
    if kind == "text":
        return text
    if kind == "time":
        return text or is_.is_timestamp(found) or is_.is_date(found)
    if kind in ("number", "integer"):  # pandas writes integers with a gap as doubles
        return text or number
    if not (is_.is_list(found) or is_.is_large_list(found) or is_.is_fixed_size_list(found)):
        return text  # CSV has no lists: they come as JSON
    inner = found.value_type
    if kind == "vector":
        return bool(is_.is_floating(inner) or is_.is_integer(inner))
    return bool(is_.is_string(inner) or is_.is_large_string(inner) or is_.is_null(inner))
