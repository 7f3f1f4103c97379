"""Finds the files in force of a Delta or Iceberg table: those of its newest state. Its folder also holds older files.

The packages `deltalake` and `pyiceberg` read the tables' logs. The files themselves are parquet, and are read like any
other parquet. A table with deleted rows or renamed columns is refused, because its files alone do not show them.
"""

import re
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import pyarrow.parquet as pq

from graph_build.errors import GraphInputError
from graph_build.ingest.contract import Table
from graph_build.paths import is_local, local_path
from graph_build.spark.storage import join, list_folder, open_file

_DELTA = "_delta_log/"
_METADATA = re.compile(r"(?:^|/)metadata/[^/]*\.metadata\.json$")
_AS_TABLE = "or read it with Spark: table:NAME"


def lake_format(names: Sequence[str]) -> str | None:
    """Return `delta` or `iceberg` if a folder is a table of that kind; None if it is neither.

    Args:
        names: the paths of all files below the folder, hidden ones too.
    """
    if any(name.startswith(_DELTA) for name in names):
        return "delta"
    return "iceberg" if any(name.startswith("metadata/") and _METADATA.search(name) for name in names) else None


def inner_tables(names: Sequence[str]) -> list[str]:
    """Return the Delta and Iceberg tables that lie below a folder, as paths below it.

    Args:
        names: the paths of all files below the folder, hidden ones too.
    """
    delta = {name.partition(f"/{_DELTA}")[0] for name in names if f"/{_DELTA}" in name}
    iceberg = {name[: match.start()] for name in names if (match := _METADATA.search(name)) and match.start()}
    return sorted(delta | iceberg)


def outer_table(path: str) -> str | None:
    """Return the Delta or Iceberg table in which a local file or folder lies; None if it lies in no such table."""
    if not is_local(path):
        return None
    parts = local_path(path).rstrip("/").split("/")[:-1]
    for n in range(len(parts), 0, -1):
        folder = "/".join(parts[:n]) or "/"
        log, metadata = list_folder(join(folder, "_delta_log")), list_folder(join(folder, "metadata"))
        if any(name.endswith(".json") for name in log) or any(name.endswith(".metadata.json") for name in metadata):
            return folder
    return None


def lake_files(table: Table, path: str, format_: str) -> list[str]:
    """Return the files in force of a Delta or Iceberg table, in the order of their names.

    Args:
        table: which table they hold, for the message.
        path: the table's folder, local or as a URI.
        format_: `delta` or `iceberg`.

    Raises:
        GraphInputError: the package that reads the table is not installed, the table cannot be read or is empty, or it
            has deleted rows or renamed columns.
    """
    module, package = ("deltalake", "deltalake") if format_ == "delta" else ("pyiceberg.table", "pyiceberg")
    try:
        lake = import_module(module)
    except ImportError:
        raise GraphInputError(
            f"{path}: the {table} are a {format_.title()} table, and the package {package} is not installed; install "
            f"it (pip install {package}), write the table as plain parquet, {_AS_TABLE}"
        ) from None
    try:
        files = _delta_files(table, path, lake) if format_ == "delta" else _iceberg_files(table, path, lake)
    except GraphInputError:
        raise
    except Exception as error:  # each package has errors of its own
        cause = str(error).partition("\n")[0]
        raise GraphInputError(
            f"{path}: {table} cannot be read as a {format_.title()} table ({cause}); write it as plain parquet, "
            f"{_AS_TABLE}"
        ) from error
    if not files:
        raise GraphInputError(f"{path}: the {format_.title()} table of {table} is empty")
    return sorted(files)


def _delta_files(table: Table, path: str, lake: Any) -> list[str]:
    delta = lake.DeltaTable(local_path(path) if is_local(path) else path)
    mode = delta.metadata().configuration.get("delta.columnMapping.mode", "none")
    if mode != "none":
        raise GraphInputError(
            f"{path}: the Delta table of {table} maps the names of its columns ({mode}), which its files do not know; "
            f"write it as plain parquet, {_AS_TABLE}"
        )
    if delta.deletion_vectors().read_all().num_rows:
        raise GraphInputError(
            f"{path}: the Delta table of {table} has deleted rows that still stand in its files; remove them with "
            f"REORG TABLE … APPLY (PURGE), {_AS_TABLE}"
        )
    return list(delta.file_uris())


def _iceberg_files(table: Table, path: str, lake: Any) -> list[str]:
    newest = max(
        (name for name in list_folder(join(path, "metadata")) if name.endswith(".metadata.json")), key=_version
    )
    iceberg = lake.StaticTable.from_metadata(join(path, "metadata", newest))
    files = []
    for task in iceberg.scan().plan_files():
        if task.delete_files:
            raise GraphInputError(
                f"{path}: the Iceberg table of {table} has deleted rows that still stand in its files; rewrite them "
                f"with the procedure rewrite_data_files, {_AS_TABLE}"
            )
        file = task.file.file_path
        file = local_path(file) if is_local(file) else file
        _check_names(table, path, file, iceberg.schema())
        files.append(file)
    return files


def _version(name: str) -> tuple[int, str]:
    """Return the number of a version, from `v3.metadata.json` or `00003-<uuid>.metadata.json`."""
    number = re.match(r"v?(\d+)", name)
    return int(number[1]) if number else -1, name


def _check_names(table: Table, path: str, file: str, schema: Any) -> None:
    """Refuse a file whose columns have been renamed since it was written."""
    with open_file(file) as opened:
        columns = pq.read_schema(opened)
    names = {field.field_id: field.name for field in schema.fields}
    for column in columns:
        number = int((column.metadata or {}).get(b"PARQUET:field_id", -1))
        is_renamed = names.get(number, column.name) != column.name
        if is_renamed or (number not in (-1, *names) and column.name in names.values()):
            raise GraphInputError(
                f"{path}: the column {names.get(number, column.name)!r} of the Iceberg table of {table} has another "
                f"name in {file}; rewrite the files with the procedure rewrite_data_files, {_AS_TABLE}"
            )
