"""Files of queries for `lightsage retrieve`, read as they are: parquet piece by piece, CSV in one piece."""

import glob
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc_csv
import pyarrow.dataset as ds

from jobs.errors import TableError


def read_table(path: str) -> pa.Table:
    """Read a parquet or CSV file, or a folder of either (date-partitioned or not), as it is.

    Raises:
        TableError: the path is missing, or a file is not what its name says.
    """
    root = Path(path)
    if not root.exists():
        raise TableError(f"{path} does not exist; give a parquet or CSV file, or a folder of them")
    names = [str(root)] if root.is_file() else sorted(glob.glob(f"{glob.escape(path)}/**/*.*", recursive=True))
    csv_files = [name for name in names if name.endswith((".csv", ".csv.gz"))]
    try:
        if csv_files:
            tables = [pc_csv.read_csv(name) for name in csv_files]
            return pa.concat_tables(tables, promote_options="permissive")
        return ds.dataset(path, format="parquet", partitioning="hive").to_table()
    except (pa.ArrowException, OSError) as error:
        raise TableError(f"{path} is not readable as parquet or CSV: {error}") from error


def stream_table(path: str, rows: int = 65_536) -> tuple[int, Iterator[pa.Table]]:
    """Read a table in pieces; CSV comes in one piece.

    Args:
        path: a parquet or CSV file, or a folder of either.
        rows: the largest number of rows of a piece.

    Returns:
        The number of all rows, and the pieces, each of which is read when it is needed.

    Raises:
        TableError: as for `read_table`. If a file is damaged further on, the error comes when that part is reached.
    """
    if not Path(path).exists() or not _is_parquet(Path(path)):
        table = read_table(path)
        return len(table), iter([table])
    try:
        data = ds.dataset(path, format="parquet", partitioning="hive")
        total = data.count_rows()
    except (pa.ArrowException, OSError) as error:
        raise TableError(f"{path} is not readable as parquet or CSV: {error}") from error

    def pieces() -> Iterator[pa.Table]:
        try:
            for batch in data.to_batches(batch_size=rows):
                yield pa.Table.from_batches([batch])
        except (pa.ArrowException, OSError) as error:
            raise TableError(f"{path} is not readable to its end: {error}") from error

    return total, pieces() if total else iter([data.schema.empty_table()])


def _is_parquet(path: Path) -> bool:
    return (
        path.name.endswith(".parquet")
        if path.is_file()
        else not glob.glob(f"{glob.escape(str(path))}/**/*.csv*", recursive=True)
    )
