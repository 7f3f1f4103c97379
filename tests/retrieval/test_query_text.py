"""Retrieval normalises queries as the graph build does: one golden file pins both sides."""

import json
from pathlib import Path

from retrieval.query_text import normalise_query

GOLDEN = Path(__file__).parents[1] / "graph_build" / "ingest" / "golden_queries.json"


def test_queries_match_the_golden_file() -> None:
    pairs = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert len(pairs) > 5
    assert [normalise_query(raw) for raw, _ in pairs] == [normal for _, normal in pairs]
