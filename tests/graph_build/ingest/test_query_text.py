import json
import unicodedata
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from graph_build.ingest.query_text import normalise_query

GOLDEN = json.loads((Path(__file__).parent / "golden_queries.json").read_text(encoding="utf-8"))


def test_queries_match_the_golden_file() -> None:
    for query, expected in GOLDEN:
        assert normalise_query(query) == expected, query


@given(st.text(max_size=30))
def test_normalising_twice_is_normalising_once_and_leaves_nfkc(query: str) -> None:
    once = normalise_query(query)
    if once is not None:
        assert unicodedata.is_normalized("NFKC", once)
        assert once == " ".join(once.split())
        assert normalise_query(once) == once


def test_no_query_stays_none() -> None:
    assert normalise_query(None) is None
