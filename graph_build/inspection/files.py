"""Finds the files behind the paths of an inspection, and puts those together that make up one table."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from graph_build.errors import GraphInputError
from graph_build.ingest.contract import Table
from graph_build.ingest.files import files_of
from graph_build.inspection.columns import describe
from graph_build.inspection.layout import Layout, sniff
from graph_build.inspection.recognise import recognise
from graph_build.inspection.sample import read_sample
from graph_build.paths import is_local, local_path

_LOOKED_AT = 24  # files of a path whose content decides which table they are of
_FIRST_BYTES = 1 << 16


@dataclass
class FileGroup:
    """Files that make up one table.

    Args:
        paths: the paths that were given.
        files: the files.
        layout: how the first one is written.
        table: what they seem to be, as far as that shows without a list exploded.
    """

    paths: list[str]
    files: list[str]
    layout: Layout
    table: Table | None


def size_of(file: str) -> int:
    """Return the size of a file in bytes.

    Args:
        file: a path or URI.
    """
    if is_local(file):
        return os.stat(local_path(file)).st_size
    import fsspec

    files, name = fsspec.core.url_to_fs(file)
    return int(files.info(name)["size"])


def group_files(paths: Sequence[str]) -> tuple[list[FileGroup], list[str]]:
    """Return the tables behind paths, and what is wrong with files that belong to none.

    Args:
        paths: files and folders; one folder may hold several tables.
    """
    groups: dict[tuple[object, ...], FileGroup] = {}
    faults: list[str] = []
    for path in paths:
        try:
            files = files_of("events", path)
        except GraphInputError as error:
            faults.append(str(error).replace("the events file or folder", "it").replace("the events folder", "it"))
            continue
        whole_path = len(_keys(files)) == 1
        for file in _spread(files):
            try:
                layout = sniff(file)
                key = _key(file, layout)
            except GraphInputError as error:
                faults.append(str(error))
                continue
            group = groups.setdefault(key, FileGroup([], [], layout, _table_of(key)))
            alike = [other for other in files if _ending(other) == _ending(file)] if len(files) > _LOOKED_AT else [file]
            group.files += [other for other in alike if other not in group.files]
            shown_path = path if whole_path else file
            if shown_path not in group.paths:
                group.paths.append(shown_path)
    return list(groups.values()), faults


def _spread(files: Sequence[str]) -> list[str]:
    step = max(1, len(files) // _LOOKED_AT)
    return list(files[::step])


def _keys(files: Sequence[str]) -> set[tuple[object, ...]]:
    keys: set[tuple[object, ...]] = set()
    for file in _spread(files):
        try:
            keys.add(_key(file, sniff(file)))
        except GraphInputError:
            keys.add(())
    return keys


def _table_of(key: tuple[object, ...]) -> Table | None:
    tables: tuple[Table, ...] = ("events", "items", "ads")
    return next((table for table in tables if key and key[0] == table), None)


def _key(file: str, layout: Layout) -> tuple[object, ...]:
    """Return what files of one table have in common: what they seem to be, and how they are written."""
    if layout.format == "weblog":
        return (None, layout.format)
    rows = read_sample(file, layout, most_bytes=_FIRST_BYTES).rows
    guess = recognise(describe(rows, ()))
    # Catalogues that hold different columns are tables of their own; logs of events differ from day to day.
    columns = {None: frozenset(rows.column_names), "items": frozenset(guess.mapping)}.get(guess.table)
    width = 0 if layout.header else len(layout.names)
    return (guess.table, layout.format, layout.separator, width, columns)


def _ending(file: str) -> str:
    return file.rpartition("/")[2].partition(".")[2]
