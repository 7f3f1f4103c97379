"""Queries are normalised as the golden file says, and normalising them again changes nothing."""

import json
import unicodedata
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from graph_build.ingest.query_text import normalise_query

# Each row: query, normalised text, hash of the normalised text.
GOLDEN = json.loads((Path(__file__).parent / "golden_queries.json").read_text(encoding="utf-8"))


def test_queries_are_normalised_as_in_the_golden_file() -> None:
    assert len(GOLDEN) > 5
    for query, expected, _ in GOLDEN:
        assert normalise_query(query) == expected, query


@given(st.text(max_size=30))
def test_a_normalised_query_is_nfkc_and_stays_the_same_when_normalised_again(query: str) -> None:
    once = normalise_query(query)
    if once is not None:
        assert unicodedata.is_normalized("NFKC", once)
        assert once == " ".join(once.split())
        assert normalise_query(once) == once


def test_a_missing_query_stays_none() -> None:
    assert normalise_query(None) is None
