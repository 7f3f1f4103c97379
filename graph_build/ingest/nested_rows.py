"""Reads the needed values of Arrow's columns, also those inside nested records and in each element of a list.

Every type is converted to one that both readers know. A path that leads into text, or to a position in a list, cannot
be followed column by column. In that case `record_rows` reads the records one by one, as text.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from graph_build.errors import GraphInputError
from graph_build.ingest.arrow_values import TIME, chunk, read_value
from graph_build.ingest.contract import Table, is_list, is_text, value_type
from graph_build.ingest.fields import POSITION, ROW, Fields, column_of, split_path
from graph_build.ingest.record_rows import FAULT, rows_of_records
from graph_build.ingest.values import BLANKS


def plain_type(type_: pa.DataType) -> pa.DataType:
    """Return the type to which values of a type are converted.

    Integers are int64 (large ones decimals), floats are doubles, and times are in microseconds and UTC.
    """
    is_, type_ = pa.types, value_type(type_)
    if is_text(type_) or is_.is_null(type_):
        return pa.string()
    if is_.is_uint64(type_):
        return pa.decimal128(20, 0)
    if is_.is_integer(type_):
        return pa.int64()
    if is_.is_floating(type_):
        return pa.float64()
    if is_.is_timestamp(type_) or is_.is_date(type_):
        return TIME
    return pa.list_(plain_type(type_.value_type)) if is_list(type_) else type_


def field_types(table: Table, file: str, schema: pa.Schema, fields: Fields) -> dict[str, pa.DataType]:
    """Return the columns that a file has, with their types.

    Args:
        table: which table the file holds, for the message.
        file: a path or URI.
        schema: the file's columns.
        fields: the values that are read from each row.

    Raises:
        GraphInputError: there is no column to explode, or a path leads into a list that is not exploded.
    """
    element: pa.DataType | None = None
    if fields.explode is not None:
        element = _type_of(schema, fields.explode)
        if element is None:
            raise GraphInputError(
                f"{file}: [input.{table}] explode names {fields.explode!r}, which is not among the columns "
                f"{', '.join(map(_described, schema))}"
            )
        element = element.value_type if is_list(element) else element
    types: dict[str, pa.DataType] = {}
    for name, parts in fields.columns:
        kinds = []
        for path in parts:
            inside = fields.in_element(path)
            if path in (POSITION, ROW):
                type_ = pa.string()
            elif inside is None:
                type_ = _type_of(schema, path)
            else:
                type_ = type_at(element, inside.split(".") if inside else [])
            if type_ is None and inside is None:
                _check_lists(table, file, schema, path)
            kinds.append(type_)
        if None not in kinds:
            types[name] = kinds[0] if len(parts) == 1 else pa.string()
    return types


def _type_of(schema: pa.Schema, path: str) -> pa.DataType | None:
    way = column_of(path, schema.names)
    return None if way is None else type_at(schema.field(way[0]).type, way[1])


def _check_lists(table: Table, file: str, schema: pa.Schema, path: str) -> None:
    """Refuse a path that leads into a list as if it were a record."""
    for outer, below in split_path(path)[1:]:
        type_ = _type_of(schema, outer)
        if type_ is not None and is_list(type_):
            raise GraphInputError(
                f"{file}: the column {path!r} of {table} leads into the list {outer!r}; set [input.{table}] explode = "
                f'"{outer}", or name a place in it, such as "{outer}.0.{".".join(below)}"'
            )


def _described(field: pa.Field) -> str:
    """Return the name of a column, and the names of the columns inside it.

    >>> _described(pa.field("x", pa.list_(pa.struct([("id", pa.int64())]))))
    'x [id]'
    """
    type_ = field.type.value_type if is_list(field.type) else field.type
    inner = ", ".join(one.name for one in type_) if pa.types.is_struct(type_) else ""
    marks = "[{}]" if is_list(field.type) else "({})"
    return f"{field.name} {marks.format(inner)}" if inner or is_list(field.type) else field.name


def type_at(type_: pa.DataType, keys: Sequence[str]) -> pa.DataType | None:
    """Return the type of the value to which names lead from another value; None if they lead nowhere.

    Below a text, which may be JSON, or at a position in a list, only the values could show the type. It is then text.

    Args:
        type_: the type of the value from which the names lead.
        keys: the names.
    """
    for key in keys:
        type_ = value_type(type_)
        if pa.types.is_null(type_):
            return type_
        if is_text(type_) or (is_list(type_) and key.isdecimal()):
            return pa.string()
        if not pa.types.is_struct(type_) or type_.get_field_index(key) < 0:
            return None
        type_ = type_.field(key).type
    return type_


def can_follow(schema: pa.Schema, fields: Fields) -> bool:
    """Return whether every path leads through records only, and the exploded column holds lists.

    Args:
        schema: the columns in which the fields' paths begin.
        fields: the values that are read from each row.
    """
    element: pa.DataType | None = None
    if fields.explode is not None:
        lists = _record_type(schema, fields.explode)
        if lists is None or not is_list(lists):
            return False
        element = lists.value_type
    for path in fields.paths:
        inside = fields.in_element(path)
        if inside is None and _record_type(schema, path) is None:
            return False
        if inside and not _leads_through_records(element, inside.split(".")):
            return False
    return True


def _record_type(schema: pa.Schema, path: str) -> pa.DataType | None:
    """Return the type at a path that leads through records only; None for any other path."""
    way = column_of(path, schema.names)
    if way is None or not _leads_through_records(schema.field(way[0]).type, way[1]):
        return None
    return type_at(schema.field(way[0]).type, way[1])


def _leads_through_records(type_: pa.DataType | None, keys: Sequence[str]) -> bool:
    for key in keys:
        if type_ is None or not pa.types.is_struct(type_) or type_.get_field_index(key) < 0:
            return False
        type_ = type_.field(key).type
    return True


def rows_of_columns(table: pa.Table, fields: Fields, row_prefix: str, first: int) -> pa.Table:
    """Return the rows of a table: a column for each field, and `FAULT`, which is null for a good row.

    Args:
        table: the columns in which the fields' paths begin, and perhaps `FAULT`.
        fields: the values that are read from each row.
        row_prefix: the beginning of every text for `#row`.
        first: the number of the table's first row.
    """
    if not can_follow(table.schema, fields):
        return rows_of_records(table.to_pylist(), fields, row_prefix, first)
    rows = _ExplodedRows(table, fields)
    columns = {}
    for name, parts in fields.columns:
        values = [rows.values(path, row_prefix, first) for path in parts]
        columns[name] = _plain(values[0]) if len(values) == 1 else _joined(values, fields.null_words)
    faults = pa.nulls(len(rows.parents), pa.string())
    if FAULT in table.column_names:
        faults = chunk(table[FAULT]).take(rows.parents)
    return pa.table({**columns, FAULT: faults})


class _ExplodedRows:
    """The rows made from a table: one for each element of the exploded list, or the table's own if no list is exploded.

    For each of these rows, `parents` holds the number of the table's row that it was made from.
    """

    def __init__(self, table: pa.Table, fields: Fields) -> None:
        self._table, self._fields, self._elements = table, fields, None
        self.parents = pa.array(np.arange(len(table)))
        if fields.explode is not None:
            lists = self._follow(fields.explode)
            lists = lists.cast(pa.list_(lists.type.value_type))
            self.parents, self._elements = pc.list_parent_indices(lists), pc.list_flatten(lists)

    def values(self, path: str, row_prefix: str, first: int) -> pa.Array:
        """Return the values of one path, one for each row."""
        if path == POSITION:
            parents = self.parents.to_numpy()
            return pa.array(np.arange(len(parents)) - np.searchsorted(parents, parents)).cast(pa.string())
        if path == ROW:
            return pa.array([f"{row_prefix}-{first + n}" for n in self.parents.to_pylist()], pa.string())
        inside = self._fields.in_element(path)
        if inside is not None:
            return _below(self._elements, inside.split(".") if inside else [])
        values = self._follow(path)
        return values if self._elements is None else values.take(self.parents)

    def _follow(self, path: str) -> pa.Array:
        way = column_of(path, self._table.column_names)
        assert way is not None
        return _below(chunk(self._table[way[0]]), way[1])


def _below(values: pa.Array, keys: Sequence[str]) -> pa.Array:
    return pc.struct_field(values, list(keys)) if keys else values


def _plain(values: pa.Array) -> pa.Array:
    """Return values in their `plain_type`."""
    type_ = plain_type(values.type)
    if type_ == TIME:
        return read_value(pa.chunked_array([values]), "time")
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    return values if values.type == type_ else values.cast(type_, safe=False)


def _joined(values: Sequence[pa.Array], null_words: tuple[str, ...]) -> pa.Array:
    """Return the texts of several columns joined by a blank; null where one of the texts is missing."""
    texts = [pc.utf8_trim(part.cast(pa.string()), BLANKS) for part in values]
    nothing = pa.array(["", *null_words])
    return pc.binary_join_element_wise(*(pc.if_else(pc.is_in(text, nothing), None, text) for text in texts), " ")
