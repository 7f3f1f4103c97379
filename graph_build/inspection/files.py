"""Finds the files behind the paths of an inspection, and groups those that make up one table."""

from collections.abc import Sequence
from dataclasses import dataclass

from graph_build.errors import GraphInputError
from graph_build.ingest.contract import Table
from graph_build.ingest.files import files_of
from graph_build.inspection.columns import describe
from graph_build.inspection.flat_records import lists_of
from graph_build.inspection.layout import Layout, sniff
from graph_build.inspection.recognise import recognise
from graph_build.inspection.sample import read_sample

# About this many files of a path are looked at. Any other file joins the table of a file whose name has the same end.
_LOOKED_AT = 24
_FIRST_BYTES = 1 << 16


@dataclass
class FileGroup:
    """Files that make up one table.

    Args:
        paths: the paths that were given. If a path holds several tables, its files of this table replace it.
        files: the files.
        layout: how the first file is written.
        columns: the names of the columns in the first rows of that file; names inside records and lists have points.
        table: the table that the files seem to be, judged before any list is exploded.
    """

    paths: list[str]
    files: list[str]
    layout: Layout
    columns: tuple[str, ...]
    table: Table | None


@dataclass(frozen=True)
class _Peek:
    """What the first bytes of a file tell."""

    layout: Layout
    columns: tuple[str, ...]
    table: Table | None
    key: tuple[object, ...]


def group_files(paths: Sequence[str]) -> tuple[list[FileGroup], list[str]]:
    """Return the tables that paths hold, and what is wrong with files that belong to no table.

    Args:
        paths: files and folders; one folder may hold several tables.
    """
    groups: dict[tuple[object, ...], FileGroup] = {}
    faults: list[str] = []
    for path in paths:
        try:
            files = files_of("events", path)
        except GraphInputError as error:
            faults.append(str(error).replace(": the events file or folder does not exist", " does not exist"))
            continue
        peeks = {file: _peek(file) for file in files[:: max(1, len(files) // _LOOKED_AT)]}
        is_one_table = len({peek if isinstance(peek, str) else peek.key for peek in peeks.values()}) == 1
        for file, peek in peeks.items():
            if isinstance(peek, str):
                faults.append(peek)
                continue
            group = groups.setdefault(peek.key, FileGroup([], [], peek.layout, peek.columns, peek.table))
            alike = [other for other in files if _ending(other) == _ending(file)] if len(files) > len(peeks) else [file]
            group.files += [other for other in alike if other not in group.files]
            shown_path = path if is_one_table else file
            if shown_path not in group.paths:
                group.paths.append(shown_path)
    return list(groups.values()), faults


def _peek(file: str) -> _Peek | str:
    """Return what the first bytes of a file tell, or what is wrong with it."""
    try:
        layout = sniff(file)
        sample = read_sample(file, layout, most_bytes=_FIRST_BYTES)
    except GraphInputError as error:
        return str(error)
    guess = recognise(describe(sample.rows, ()))
    of_lists = {
        f"{path}.{key}"
        for path, elements in lists_of(sample.records).items()
        for element in elements
        if isinstance(element, dict)
        for key in element
    }
    names = layout.names or tuple(sample.rows.column_names)
    # Files make up one table if they seem to be the same table and are written alike. But catalogues with different
    # columns are different tables. Logs of events are not, because their columns may differ from day to day.
    columns = {None: frozenset(names), "items": frozenset(guess.mapping)}.get(guess.table)
    width = 0 if layout.header else len(layout.names)
    key = (guess.table, layout.format, layout.separator, width, columns)
    return _Peek(layout, (*names, *sorted(of_lists)), guess.table, key)


def _ending(file: str) -> str:
    return file.rpartition("/")[2].partition(".")[2]
