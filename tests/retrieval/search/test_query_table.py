"""The columns and types of a table of queries, and the errors for other tables."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from retrieval.errors import QueriesError
from retrieval.search.query_table import QUERIES, conform_queries

T = datetime(2026, 3, 14, 9, 30, tzinfo=UTC)


def table(**columns: object) -> pa.Table:
    return pa.table({"query_id": ["q1", "q2"], "item_ids": [["a"], ["b", "c"]]} | columns)


@pytest.mark.parametrize(
    ("queries", "words"),
    [
        (table(contry=["DE", "FR"]), ("unknown column 'contry'", "query_id, item_ids, at, country", "mean 'country'")),
        (table(zzz=["DE", "FR"]), ("unknown column 'zzz'",)),
        (pa.table({"query_id": ["q"]}), ("column 'item_ids' is missing, got query_id",)),
        (table(item_ids=["a", "b"]), ("'item_ids' has type string, expected list<string>",)),
        (table(item_ids=[[0.5], [1.5]]), ("'item_ids' has type list", "double", "expected list<string>")),
        (table(query_id=[0.5, 1.5]), ("'query_id' has type double, expected string",)),
        (table(query_id=pa.array([None, "q"])), ("'query_id', row 1: 1 queries have no id",)),
        (table(country=["de", "Germany"]), ("'country', row 2: got 'Germany', expected two letters",)),
        (table(country=[None, ""]), ("'country', row 2: got ''",)),
        (table(country=[1.5, 2.5]), ("'country' has type double, expected string",)),
        (table(at=["2026-03-14", "garbage"]), ("'at', row 2: got 'garbage'", "ISO 8601")),
        (table(at=["1773532800", None]), ("'at', row 1: got '1773532800'", "ISO 8601")),
        (pa.table([["q"], [["a"]], ["r"]], names=["query_id", "item_ids", "query_id"]), ("'query_id' is there twice",)),
        (table(at=[1, 2]), ("'at' has type int64, expected timestamp[us, tz=UTC] or ISO 8601 text",)),
    ],
)
def test_a_wrong_column_is_named_with_its_file_and_what_was_expected(queries, words) -> None:
    with pytest.raises(QueriesError) as error:
        conform_queries(queries, "shop/q.parquet")
    for word in ("shop/q.parquet: ", *words):
        assert word in str(error.value)


@pytest.mark.parametrize(
    "at",
    [
        ["2026-03-14T09:30:00Z", "2026-03-14T10:30:00+01:00"],
        ["2026-03-14 09:30:00", "2026-03-14T05:30:00-0400"],
        pa.array([T, T], pa.timestamp("ms", "Europe/Berlin")),
        pa.array([T.replace(tzinfo=None)] * 2, pa.timestamp("ns")),
        pa.array(["2026-03-14T09:30:00Z", "2026-03-14T09:30:00"], pa.large_string()),
        pa.array(["20260314T0930", "2026-W11-6 09:30 UTC"]).dictionary_encode(),
    ],
)
def test_times_may_be_text_or_of_any_zone_and_without_one_are_utc(at) -> None:
    assert conform_queries(table(at=at))["at"].to_pylist() == [T, T]


def test_dates_are_midnight_in_utc_and_missing_times_stay_null() -> None:
    midnight = datetime(2026, 3, 14, tzinfo=UTC)
    assert conform_queries(table(at=["2026-03-14", None]))["at"].to_pylist() == [midnight, None]


def test_integer_and_dictionary_ids_become_text_and_missing_columns_are_null() -> None:
    conformed = conform_queries(
        table(query_id=[1, 2], item_ids=[[3], None], country=pa.array(["DE", None]).dictionary_encode())
    )
    assert conformed.schema == QUERIES
    assert conformed.to_pylist() == [
        {"query_id": "1", "item_ids": ["3"], "at": None, "country": "DE", "query": None},
        {"query_id": "2", "item_ids": None, "at": None, "country": None, "query": None},
    ]


def test_rows_are_numbered_from_the_beginning_of_the_source() -> None:
    with pytest.raises(QueriesError, match="row 102: got 'Germany'"):
        conform_queries(table(country=["de", "Germany"]), rows_before=100)
    with pytest.raises(QueriesError, match="row 101: 1 queries have no id"):
        conform_queries(table(query_id=pa.array([None, "q"])), rows_before=100)


def test_ids_lose_the_blanks_around_them_and_blank_or_null_ids_are_no_items() -> None:
    lists = pa.array([[" a\r", None, "\u00a0", "cafe\u0301"], None], pa.large_list(pa.string()))
    assert conform_queries(table(item_ids=lists))["item_ids"].to_pylist() == [["a", "caf\u00e9"], None]
    assert conform_queries(table(item_ids=[[7], [8, 9]]))["item_ids"].to_pylist() == [["7"], ["8", "9"]]


def test_the_columns_of_a_pandas_index_are_passed_over() -> None:
    queries = table(__index_level_0__=[0, 1], **{"Unnamed: 0": [0, 1], "": ["0", "1"]})
    assert conform_queries(queries).equals(conform_queries(table()))
