"""Writes the recorded changes as two Arrow streams, and reads them; a million changed ads take a second to write."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from retrieval.arrays import Rows
from retrieval.live.change import FIELDS
from retrieval.live.recorded import TEXT_FIELDS, Changes, Subjects, ValueCodes

KINDS = ("ads", "campaigns")
# Other threads get no turn while a list of names is turned into a column, or back.
_NAMES_AT_ONCE = 10_000


def encode(changes: Changes, kind: str) -> pa.Buffer:
    """Return what is recorded as an Arrow stream.

    The stream has the column `name`, and for each field of which anything is recorded `FIELD.version` (-1 = nothing),
    `FIELD.sequence` and `FIELD.value`. Texts are written as such, countries joined by commas, times as µs since 1970,
    bids as the bits of a float64, and nulls as `ValueCodes` says.

    Args:
        changes: what is recorded.
        kind: "ads" or "campaigns".
    """
    subjects: Subjects = getattr(changes, kind)
    columns: dict[str, Any] = {"name": _names(iter(subjects.row_of))}
    for name, field in subjects.fields():
        columns[f"{name}.version"] = pa.array(field.version)
        columns[f"{name}.sequence"] = pa.array(field.sequence)
        columns[f"{name}.value"] = _values(name, field.code, changes.codes)
    table = pa.table(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    return sink.getvalue()


def decode(content: bytes | bytearray, kind: str, changes: Changes) -> None:
    """Record the content of an Arrow stream in `changes`, which must hold nothing of this kind yet.

    Args:
        content: what `encode` returned.
        kind: "ads" or "campaigns".
        changes: where the content is recorded.

    Raises:
        pa.ArrowException, KeyError: the stream is damaged.
    """
    table = pa.ipc.open_stream(content).read_all()
    subjects: Subjects = getattr(changes, kind)
    subjects.add_all(table["name"])
    for name in FIELDS:
        if f"{name}.version" in table.column_names:
            code = _codes(name, table[f"{name}.value"].combine_chunks(), changes.codes)
            subjects.field(name).fill(table[f"{name}.version"].to_numpy(), table[f"{name}.sequence"].to_numpy(), code)


def _names(names: Iterator[str]) -> pa.ChunkedArray:
    parts = []
    while part := list(islice(names, _NAMES_AT_ONCE)):
        parts.append(pa.array(part, pa.string()))
    return pa.chunked_array(parts, pa.string()).combine_chunks()


def _values(name: str, code: Rows, codes: ValueCodes) -> pa.Array:
    if name not in TEXT_FIELDS:
        return pa.array(code)
    distinct, indices = np.unique(code, return_inverse=True)
    values = codes.values[name]
    texts = (",".join(values[n]) if name == "countries" else values[n] for n in distinct.tolist() if n >= 0)
    indices = indices.reshape(-1) - np.count_nonzero(distinct < 0)
    dictionary = _names(texts)
    return pa.DictionaryArray.from_arrays(pa.array(indices.astype(np.int32), mask=code < 0), dictionary)


def _codes(name: str, column: pa.Array, codes: ValueCodes) -> Rows:
    if name not in TEXT_FIELDS:
        return column.to_numpy()
    values = (_value(name, text) for text in column.dictionary.to_pylist())
    known = np.array([*(codes.code(name, value) for value in values), -1], np.int64)
    return known[column.indices.fill_null(-1).to_numpy()]


def _value(name: str, text: str) -> Any:
    if name != "countries":
        return text
    return text.split(",") if text else []
