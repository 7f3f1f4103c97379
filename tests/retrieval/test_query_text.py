"""Retrieval normalises queries as the graph build does: both are tested with one golden file."""

import json
from pathlib import Path

from retrieval.query_text import normalise_query

# Rows of query, normalised text, hash of that text.
GOLDEN = Path(__file__).parents[1] / "graph_build" / "ingest" / "golden_queries.json"


def test_queries_are_normalised_as_in_the_golden_file() -> None:
    rows = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert len(rows) > 5
    assert [normalise_query(query) for query, _, _ in rows] == [normalised for _, normalised, _ in rows]
