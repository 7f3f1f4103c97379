"""Reads columns from the names of folders: `status=paused/` gives every row below it the status paused."""

from collections.abc import Mapping
from urllib.parse import unquote

from graph_build.errors import GraphInputError
from graph_build.ingest.contract import Table
from graph_build.ingest.values import BLANKS

# Hive and Spark write this text for null.
_NULL = "__HIVE_DEFAULT_PARTITION__"


def folder_columns(table: Table, file: str, null_words: Mapping[str, tuple[str, ...]]) -> dict[str, str | None]:
    """Return the columns that a file's path holds, as text.

    Every folder of the path counts, so that a file has the same columns whether its partition or the whole table is
    given. A key that is not the name of a column, such as `dt`, is passed over.

    Args:
        table: which table the file holds, for the message.
        file: the path or URI, as it was given.
        null_words: the log's name of each column of the table → the words that stand for null in it.

    Raises:
        GraphInputError: two folders of the path give a column different values.

    >>> folder_columns("ads", "ads/dt=2026-03-06/status=on%20hold/part-0.parquet", {"ad_id": (), "status": ()})
    {'status': 'on hold'}
    """
    columns: dict[str, str | None] = {}
    for folder in file.split("/")[:-1]:
        key, is_pair, text = folder.partition("=")
        name = unquote(key)
        if not is_pair or name not in null_words:
            continue
        value = None if text == _NULL or unquote(text).strip(BLANKS) in null_words[name] else unquote(text)
        if name in columns and columns[name] != value:
            raise GraphInputError(
                f"{file}: the folders give the column {name!r} of {table} two values, {columns[name]!r} and {value!r}; "
                "rename one of them"
            )
        columns[name] = value
    return columns
