"""Exports to a folder of parquet files: `items/`, with one row per item, and `export.json`."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from retrieval.arrays import Floats
from retrieval.export.folder import replaced_folder
from retrieval.export.rows import Batch, Export

_ROWS_PER_FILE = 500_000


def write(export: Export, target: str, name: str) -> None:
    """Write the folder; see `retrieval.export.stores.Writer`.

    Args:
        export: what to write.
        target: the path of the folder.
        name: not used.

    Raises:
        ExportError: the folder cannot be written.
    """
    with replaced_folder(target, export.description) as folder:
        items = folder / "items"
        items.mkdir()
        writer: pq.ParquetWriter | None = None
        rows, files = 0, 0
        try:
            for batch in export.batches():
                table = _table(batch)
                if writer is None:
                    writer = pq.ParquetWriter(items / f"part-{files:05d}.parquet", table.schema, compression="zstd")
                writer.write_table(table)
                rows += len(batch)
                if rows >= (files + 1) * _ROWS_PER_FILE:
                    writer.close()
                    writer, files = None, files + 1
        finally:
            if writer is not None:
                writer.close()


def _table(batch: Batch) -> pa.Table:
    vectors = {"vector": _lists(batch.vectors), "query_vector": _lists(batch.query_vectors)}
    columns = {column: batch.columns[column] for column in batch.columns.column_names}
    return pa.table({"item_id": columns.pop("item_id")} | vectors | columns)


def _lists(vectors: Floats) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
