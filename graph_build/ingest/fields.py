"""Says which values of each record are read: by name, by a path into nested records, or from each element of a list.

A path consists of names with points between them (`items.item_id`). If a column has the whole path as its own name, it
is read first. `record_rows` follows paths in Python's objects, `nested_rows` in Arrow's columns.
"""

from collections.abc import Collection
from dataclasses import dataclass

from graph_build.config import InputConfig, TableInput
from graph_build.ingest.contract import Table, mapped, own_name

# Names that stand for no column of the log: the position in the exploded list, and a text that is unique to the record.
POSITION, ROW = "#", "#row"


@dataclass(frozen=True)
class Fields:
    """The values that are read from each record.

    Args:
        columns: for each column, its name in the log, and the names or paths to read. The texts of several are joined
            by a blank.
        explode: the path of a list, each element of which becomes a row; None = each record is a row.
        null_words: texts that stand for null when texts are joined.
    """

    columns: tuple[tuple[str, tuple[str, ...]], ...]
    explode: str | None = None
    null_words: tuple[str, ...] = ()

    @property
    def paths(self) -> list[str]:
        """Return all names and paths, with the path of the exploded list, but without POSITION and ROW."""
        paths = [path for _, parts in self.columns for path in parts if path not in (POSITION, ROW)]
        return list(dict.fromkeys([*paths, *([self.explode] if self.explode else [])]))

    def only(self, names: Collection[str]) -> "Fields":
        """Return the fields of some columns."""
        return Fields(tuple(field for field in self.columns if field[0] in names), self.explode, self.null_words)

    def in_element(self, path: str) -> str | None:
        """Return the part of a path inside an element of the exploded list: "" = the element, None = it lies outside.

        >>> Fields((), "items").in_element("items.price"), Fields((), "items").in_element("items")
        ('price', '')
        """
        if path == self.explode:
            return ""
        if self.explode and path.startswith(f"{self.explode}."):
            return path.removeprefix(f"{self.explode}.")
        return None


def fields_of(table: Table, config: InputConfig, null_words: tuple[str, ...] = ()) -> Fields:
    """Return the values that are read from each record of a table.

    Args:
        table: which of the three tables.
        config: the `[input]` section.
        null_words: texts that stand for null when texts are joined.
    """
    section: TableInput = getattr(config, table)
    columns: dict[str, tuple[str, ...]] = {}
    for name in mapped(table, config):
        column = section.columns.get(name, name)
        if not column:
            continue  # mapped to nothing
        columns[own_name(column)] = (column,) if isinstance(column, str) else column
    for name in config.items.features if table == "items" else ():
        columns.setdefault(name, (name,))
    return Fields(tuple(columns.items()), section.explode, null_words)


def split_path(path: str) -> list[tuple[str, list[str]]]:
    """Return the ways to split a path into the name of a column and the names below it, the longest column name first.

    >>> split_path("a.b")
    [('a.b', []), ('a', ['b'])]
    """
    parts = path.split(".")
    return [(".".join(parts[:n]), parts[n:]) for n in range(len(parts), 0, -1)]


def column_of(path: str, names: Collection[str]) -> tuple[str, list[str]] | None:
    """Return the column in which a path begins, and the names below it; None if there is no such column.

    Args:
        path: a name or path.
        names: the names of the columns.
    """
    return next((way for way in split_path(path) if way[0] in names), None)
