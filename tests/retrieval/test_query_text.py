"""The normaliser's twin: both sides are pinned by one golden file."""

import json
from pathlib import Path

import pytest

from retrieval.query_text import normalise_query

GOLDEN = Path(__file__).parents[1] / "graph_build" / "ingest" / "golden_queries.json"


def test_queries_match_the_golden_file() -> None:
    if not GOLDEN.exists():
        pytest.skip("golden_queries.json is written by the graph build's tests and is not there yet")
    pairs = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert len(pairs) > 5
    assert [normalise_query(raw) for raw, _ in pairs] == [normal for _, normal in pairs]
