"""Which values of a record of the log are read: by name, by a path into nested records, or from each element of a list.

A path is names with points between them (`items.item_id`). A column whose own name holds points comes first.
`record_rows` follows paths in Python's objects, `nested_rows` in Arrow's columns.
"""

from collections.abc import Collection
from dataclasses import dataclass

from graph_build.config import InputConfig, TableInput
from graph_build.ingest.contract import Table, mapped, own_name

# Names that stand for no column: the position in the exploded list, and a text that only this row of the log has.
POSITION, ROW = "#", "#row"


@dataclass(frozen=True)
class Fields:
    """What is read of each record.

    Args:
        columns: (the log's own name of a column, the names or paths whose texts are joined by a blank).
        explode: the path of the list of which each element becomes a row; None = each record is a row.
        null_words: texts that stand for null in a text that is joined.
    """

    columns: tuple[tuple[str, tuple[str, ...]], ...]
    explode: str | None = None
    null_words: tuple[str, ...] = ()

    @property
    def paths(self) -> list[str]:
        """Return all names and paths, and that of the list, without the names that stand for no column."""
        paths = [path for _, parts in self.columns for path in parts if path not in (POSITION, ROW)]
        return list(dict.fromkeys([*paths, *([self.explode] if self.explode else [])]))

    def only(self, names: Collection[str]) -> "Fields":
        """Return the fields of some columns."""
        return Fields(tuple(field for field in self.columns if field[0] in names), self.explode, self.null_words)

    def in_element(self, path: str) -> str | None:
        """Return the part of a path inside an element of the exploded list: "" for the element, None if it is outside.

        >>> Fields((), "items").in_element("items.price"), Fields((), "items").in_element("items")
        ('price', '')
        """
        if path == self.explode:
            return ""
        if self.explode and path.startswith(f"{self.explode}."):
            return path.removeprefix(f"{self.explode}.")
        return None


def fields_of(table: Table, config: InputConfig, null_words: tuple[str, ...] = ()) -> Fields:
    """Return what is read of each record of a table.

    Args:
        table: which of the three tables.
        config: the `[input]` section.
        null_words: words for null in texts that are joined.
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
    """Return the ways to read a path: the name of a column, and the names below it; the longest name first.

    >>> split_path("a.b")
    [('a.b', []), ('a', ['b'])]
    """
    parts = path.split(".")
    return [(".".join(parts[:n]), parts[n:]) for n in range(len(parts), 0, -1)]


def column_of(path: str, names: Collection[str]) -> tuple[str, list[str]] | None:
    """Return the column in which a path begins, and the names below it; None if there is none.

    Args:
        path: a name or path.
        names: the names of the columns.
    """
    return next((way for way in split_path(path) if way[0] in names), None)
