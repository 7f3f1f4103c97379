"""Tells which table a sample is, and which columns of the contract it has, by the names and values of its columns."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from graph_build.config import EventType
from graph_build.ingest.contract import REQUIRED, Table, column_kinds, is_text
from graph_build.inspection.columns import Column, is_basic_date, is_time, time_unit
from graph_build.inspection.vocabulary import TABLE_WORDS, event_type, name_score, plain

_MIN_SCORE = 0.25
_MOST_TYPES = 300
# If no column has a name for the event type, a column holds it if at least this share of its values are event words.
_MIN_KNOWN_TYPES = 0.3
_CATALOGUE_COLUMNS = ("category", "brand", "title", "price")
_AD_COLUMNS = ("campaign_id", "advertiser_id", "starts_at", "ends_at", "bid")
# Names of baskets. A column with such a name is the session only if no other column has a better name for it.
_BASKETS = ("basketid", "cartid", "orderid", "invoiceno", "invoice", "transactionid", "receiptid")


@dataclass(frozen=True)
class Guess:
    """What a sample seems to be.

    Args:
        table: which of the three tables it is; None if it is none of them.
        mapping: the contract's column → the log's own name.
        why_none: what the sample lacks, if it is none of the three.
    """

    table: Table | None
    mapping: dict[str, str] = field(default_factory=dict)
    why_none: str = ""


def recognise(columns: Mapping[str, Column], table: Table | None = None) -> Guess:
    """Return which table a sample is, and which of its columns are the contract's.

    Args:
        columns: the columns of the sample.
        table: which table it is, if that is known.
    """
    maps = {name: _mapping(name, columns) for name in (("events", "items", "ads") if table is None else (table,))}
    if table is not None:
        return Guess(table, maps[table])
    ads, events, items = maps["ads"], maps["events"], maps["items"]
    if _is_ads(ads, events, columns):
        return Guess("ads", ads)
    has_person = "session_id" in events or "user_id" in events
    if "item_id" in events and (has_person or "event_type" in events) and not _is_catalogue(items, events, columns):
        return Guess("events", events)
    if "item_id" in items and any(name in items for name in (*_CATALOGUE_COLUMNS, "embedding")):
        return Guess("items", items)
    if "item_id" not in events:
        return Guess(None, why_none="no column seems to hold the ids of items")
    lacks = (
        "no column seems to hold a session or a user"
        if "timestamp" in events
        else "it has neither times nor attributes"
    )
    return Guess(None, why_none=lacks)


def _is_ads(ads: Mapping[str, str], events: Mapping[str, str], columns: Mapping[str, Column]) -> bool:
    if "item_id" not in ads or not ({"ad_id", "campaign_id"} & ads.keys()):
        return False
    if "event_type" in events or sum(name in ads for name in _AD_COLUMNS) < 2:
        return False
    return "ad_id" not in ads or _is_nearly_unique(columns[ads["ad_id"]])


def _is_catalogue(items: Mapping[str, str], events: Mapping[str, str], columns: Mapping[str, Column]) -> bool:
    """Return whether each row is an item with attributes, and not an event with an item."""
    if "event_type" in events or "session_id" in events or "item_id" not in items:
        return False
    return _is_nearly_unique(columns[items["item_id"]]) and any(name in items for name in _CATALOGUE_COLUMNS)


def _is_nearly_unique(column: Column) -> bool:
    return column.n > 1 and column.distinct >= 0.9 * (column.n - column.nulls)


def _mapping(table: Table, columns: Mapping[str, Column]) -> dict[str, str]:
    """Map each column of the contract to the column of the log whose values fit and whose name fits best."""
    scores = [
        (_score(table, name, column), -at, name, own)
        for name in column_kinds(table)
        for at, (own, column) in enumerate(columns.items())
    ]
    mapping: dict[str, str] = {}
    for score, _, name, own in sorted(scores, reverse=True):
        if score >= _MIN_SCORE and name not in mapping and own not in mapping.values():
            mapping[name] = own
    if table == "events":
        _complete(mapping, columns)
    return mapping


def _score(table: Table, name: str, column: Column) -> float:
    score = name_score(table, name, column.name)
    if column.name == name:
        score = 1.5
    if not score or not _may_be(table, name, column):
        return 0.0
    if name == "timestamp" and column.kind == "date":
        score -= 0.2  # a column with the time of day is better
    if name == "category" and column.kind == "text":
        score += 0.2  # names of categories say more than their numbers
    if column.nulls > 0.5 * column.n:
        score -= 0.3
    return score


def _may_be(table: Table, name: str, column: Column) -> bool:
    """Return whether a column's values fit a column of the contract."""
    kind = column_kinds(table)[name]
    if column.kind == "empty" or (name == "session_id" and column.nulls > 0.5 * column.n):
        return False
    if kind == "time":
        return is_time(column)
    if name == "event_type":
        return column.kind in ("text", "whole number") and column.distinct <= _MOST_TYPES and not is_time(column)
    if kind == "id":
        is_written = column.kind == "number" and is_text(column.values.type)  # "1900000000.1600000000"
        return column.kind in ("text", "whole number", "flag") or is_written
    if name == "country":
        return all(len(text) == 2 and text.isalpha() for text in column.examples)
    if kind in ("number", "integer"):
        return column.kind in ("number", "whole number")
    if kind == "vector":
        return column.kind == "list"
    return column.kind != "list" or name in ("countries", "category")


def _complete(mapping: dict[str, str], columns: Mapping[str, Column]) -> None:
    """Use the values where no name fits: map times and event types and, without a header, also persons and items."""
    rest = [column for own, column in columns.items() if own not in mapping.values()]
    if "timestamp" not in mapping:
        times = sorted(
            (column.kind == "date" or is_basic_date(column), at) for at, column in enumerate(rest) if is_time(column)
        )
        if times:
            mapping["timestamp"] = rest.pop(times[0][1]).name
    if "event_type" not in mapping:
        words = [
            (known_share(column), column.name)
            for column in rest
            if column.kind == "text" and column.distinct <= _MOST_TYPES
        ]
        if words and max(words)[0] >= _MIN_KNOWN_TYPES:
            mapping["event_type"] = max(words)[1]
    rest = [column for column in rest if column.name not in mapping.values() and column.is_id and not is_time(column)]
    has_person = "session_id" in mapping or "user_id" in mapping
    made_up = [column for column in rest if column.name.startswith("column_")]
    if not has_person and made_up and (person := max(made_up, key=_togetherness)).distinct > 1:
        by_session = _is_session(person, columns.get(mapping.get("timestamp", "")))
        mapping["session_id" if by_session else "user_id"] = person.name
        made_up.remove(person)
    if "item_id" not in mapping and made_up:
        mapping["item_id"] = max(made_up, key=lambda column: column.distinct).name


def known_share(column: Column) -> float:
    """Return the share of a column's values that are words for events."""
    counts = column.counts()
    return sum(n for word, n in counts.items() if event_type(word)) / max(1, sum(counts.values()))


def _togetherness(column: Column) -> float:
    """Return how much more often neighbouring rows have the same value than they would by chance.

    Rows of one person often stand together.
    """
    codes = column.values.dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)
    if len(codes) < 2:
        return 0.0
    shares = np.unique(codes, return_counts=True)[1] / len(codes)
    return float((codes[1:] == codes[:-1]).mean() - (shares**2).sum())


def _is_session(column: Column, time: Column | None) -> bool:
    """Return whether ids are those of sessions: for nearly every id, all events lie within twelve hours."""
    if time is None:
        return True
    spans = id_spans(column.values, micros(time))
    return not len(spans) or float((spans > 12 * 3_600_000_000).mean()) < 0.1


def id_spans(ids: pa.Array, times: pa.Array) -> np.ndarray:
    """Return the time from first to last event, in microseconds, for each id with at least two events.

    Args:
        ids: (R,) ids, null where there is none.
        times: (R,) int64 microseconds since 1970.
    """
    table = pa.table({"id": ids, "time": times}).drop_null()
    groups = table.group_by("id").aggregate([("time", "min"), ("time", "max"), ("time", "count")])
    groups = groups.filter(pc.greater(groups["time_count"], 1))
    return pc.subtract(groups["time_max"], groups["time_min"]).to_numpy()


def micros(column: Column) -> pa.Array:
    """Return the times of a column in microseconds since 1970, null where there is none."""
    from graph_build.ingest.arrow_values import read_value

    values = column.values
    if is_basic_date(column):
        values = (
            values.cast(pa.int64(), safe=False).cast(pa.string()) if not pa.types.is_string(values.type) else values
        )
        return read_value(pa.chunked_array([values]), "time").cast(pa.int64())
    return read_value(pa.chunked_array([values]), "time", time_unit(column)).cast(pa.int64())


def type_of_rows(names: list[str], files: list[str]) -> EventType:
    """Return the most likely type of all events of a table, if no column holds their types.

    Args:
        names: the names of its columns.
        files: the names of its files.
    """
    for text in (" ".join(file.lower().rpartition("/")[2] for file in files), " ".join(names).lower()):
        for kind, words in TABLE_WORDS.items():
            if any(word in text for word in words):
                return kind
    return "view"


def is_basket(own_name: str) -> bool:
    """Return whether a column's name says that it holds baskets, and not visits."""
    return plain(own_name) in _BASKETS


def missing(table: Table, mapping: Mapping[str, object]) -> list[str]:
    """Return the required columns that a mapping lacks, but for `session_id`, which a `user_id` may replace.

    Args:
        table: which of the three tables.
        mapping: the contract's column → the log's own name.
    """
    return [name for name in REQUIRED[table] if name not in mapping and name != "session_id"]
