"""Files of queries for `lightsage retrieve`: parquet is read piece by piece, CSV in one piece.

A folder may be partitioned by keys. A key becomes a column of text if queries may have such a column; other keys are
left out.
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc_csv
import pyarrow.dataset as ds

from graph_build.config import InputConfig
from jobs.errors import TableError


def stream_table(
    path: str,
    known: Sequence[str],
    *,
    lists: Sequence[str] = (),
    config: InputConfig | None = None,
    rows: int = 65_536,
) -> tuple[int, Iterator[pa.Table]]:
    """Read a table in pieces; CSV comes in one piece.

    Args:
        path: a parquet or CSV file, or a folder of either.
        known: the columns that the table may have; other keys of a partitioned folder are left out.
        lists: the columns that hold lists; in CSV, a list is JSON, or words separated by `;`, `,` or `|`.
        config: the `[input]` section, with the encoding of CSV and the words that stand for null; None = the defaults.
        rows: the largest number of rows of a piece.

    Returns:
        The number of all rows, and the pieces. Each piece is read only when it is needed.

    Raises:
        TableError: the path does not exist, or a file is neither parquet nor CSV. If a later part of a file is damaged,
            the error is raised when that part is read.
    """
    root = Path(path)
    if not root.exists():
        raise TableError(f"{path} does not exist; give a parquet or CSV file, or a folder of them")
    files = [root] if root.is_file() else sorted(file for file in root.rglob("*") if _is_visible(file, root))
    csv_files = [file for file in files if file.name.lower().endswith((".csv", ".csv.gz"))]
    if not files:
        raise TableError(f"{path} holds no file; give a parquet or CSV file, or a folder of them")
    try:
        if csv_files:
            if len(csv_files) < len(files):
                raise TableError(f"{path} holds CSV and other files; give one kind")
            tables = [_read_csv(file, root, known, lists, config or InputConfig()) for file in files]
            return sum(map(len, tables)), iter([pa.concat_tables(tables, promote_options="permissive")])
        keys = sorted({key for file in files for key in _keys(file, root)})
        partitioning = ds.partitioning(pa.schema([(key, pa.string()) for key in keys]), flavor="hive")
        data = ds.dataset([str(file) for file in files], format="parquet", partitioning=partitioning)
        schemas = [data.schema, *(fragment.physical_schema for fragment in data.get_fragments())]
        data = data.replace_schema(pa.unify_schemas(schemas, promote_options="permissive"))
        columns = [name for name in data.schema.names if name not in keys or name in known]
        total = data.count_rows()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise TableError(f"{path} is not readable as parquet or CSV: {error}") from error

    def pieces() -> Iterator[pa.Table]:
        try:
            for batch in data.to_batches(columns=columns, batch_size=rows):
                yield pa.Table.from_batches([batch])
        except (pa.ArrowException, OSError) as error:
            raise TableError(f"{path} is not readable to its end: {error}") from error

    return total, pieces() if total else iter([data.schema.empty_table().select(columns)])


def _is_visible(file: Path, root: Path) -> bool:
    return file.is_file() and not any(part.startswith(("_", ".")) for part in file.relative_to(root).parts)


def _keys(file: Path, root: Path) -> dict[str, str]:
    """Return the partition keys of a file below a folder, with their values."""
    pairs = (part.partition("=") for part in file.relative_to(root).parts[:-1])
    return {key: value for key, separator, value in pairs if separator}


def _read_csv(file: Path, root: Path, known: Sequence[str], lists: Sequence[str], config: InputConfig) -> pa.Table:
    """Read a CSV file as text, so that ids stay as they are written."""
    from graph_build.ingest.arrow_values import read_value
    from graph_build.ingest.values import null_words

    options = pc_csv.ReadOptions(encoding=config.encoding)
    with pc_csv.open_csv(file, options) as reader:
        names = reader.schema.names
    convert = pc_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
    table = pc_csv.read_csv(file, options, pc_csv.ParseOptions(newlines_in_values=True), convert)
    columns = [
        read_value(table.column(n), "text", None, null_words(name, "csv", config)) for n, name in enumerate(names)
    ]
    table = pa.table(columns, names=names)
    for key, value in _keys(file, root).items():
        if key in known and key not in table.column_names:
            table = table.append_column(key, pa.array([value] * len(table), pa.string()))
    for name in lists:
        if name in table.column_names:
            values = [_list_of(text, name, file) for text in table[name].to_pylist()]
            column = pa.array(values, pa.list_(pa.string()))
            table = table.set_column(table.column_names.index(name), name, column)
    return table


def _list_of(text: str | None, name: str, file: Path) -> list[str | None] | None:
    if text is None:
        return None
    if not text.lstrip().startswith("["):
        return [word.strip() for word in re.split("[;,|]", text)]
    try:
        values = json.loads(text)
    except ValueError as error:
        raise TableError(f"{file}: column {name!r} holds {text!r}, which is not a JSON list: {error}") from None
    return [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
