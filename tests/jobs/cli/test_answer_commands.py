"""`retrieve`: ranked, eligible results for a table of queries."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.cli.cli import main

COLUMNS = ["query_id", "rank", "item_id", "ad_id", "score", "reason"]


def write_queries(path: Path, rows: list[dict[str, object]]) -> str:
    types = {"query_id": pa.string(), "item_ids": pa.list_(pa.string()), "at": pa.timestamp("us", "UTC")}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in rows[0]])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return str(path)


def test_results_are_ranked_and_eligible(shop, popular_items, tmp_path):
    queries = write_queries(
        tmp_path / "q.parquet",
        [
            {"query_id": "one", "item_ids": popular_items[:1], "country": None},
            {"query_id": "many", "item_ids": popular_items[1:4], "country": "DE"},
            {"query_id": "none", "item_ids": ["no-such-item"], "country": None},
        ],
    )
    out = tmp_path / "deep" / "out.parquet"
    arguments = [
        "retrieve",
        "--workspace",
        str(shop.workspace),
        "--queries",
        queries,
        "--k",
        "10",
        "--output",
        str(out),
    ]
    assert main(arguments) == 0
    table = pq.read_table(out)
    assert table.column_names == COLUMNS
    for query_id, last_item in (("one", popular_items[0]), ("many", popular_items[3]), ("none", None)):
        rows = table.filter(pc.equal(table["query_id"], query_id))
        assert rows["rank"].to_pylist() == list(range(1, 11))
        scores = rows["score"].to_pylist()
        assert scores == sorted(scores, reverse=True)
        assert last_item not in rows["item_id"].to_pylist()
        assert len(set(rows["item_id"].to_pylist())) == 10
        assert (set(rows["reason"].to_pylist()) == {"fallback"}) == (query_id == "none")
    ads = {ad["ad_id"]: ad for ad in pq.read_table(shop.files.ads).to_pylist()}
    as_of = json.loads((shop.version / "manifest.json").read_text())["as_of"]
    for row in table.to_pylist():
        ad = ads[row["ad_id"]]
        assert ad["item_id"] == row["item_id"]
        assert ad["status"] in (None, "active")
        assert ad["starts_at"] is None or ad["starts_at"].isoformat() <= as_of
        assert ad["ends_at"] is None or ad["ends_at"].isoformat() > as_of
        countries = {c.upper() for c in ad["countries"] or []}
        assert not countries or (row["query_id"] == "many" and "DE" in countries)


def test_k_beyond_the_catalogue_returns_every_item(shop, popular_items, tmp_path):
    queries = write_queries(tmp_path / "q.parquet", [{"query_id": "q", "item_ids": popular_items[:1]}])
    out = tmp_path / "out.parquet"
    arguments = ["retrieve", "--workspace", str(shop.workspace), "--queries", queries, "--k", "1000000", "--all-items"]
    assert main([*arguments, "--output", str(out)]) == 0
    assert len(pq.read_table(out)) == len(popular_items) - 1
    assert pq.read_table(out)["ad_id"].null_count == len(popular_items) - 1
    assert main([*arguments, "--include-current", "--output", str(out)]) == 0
    assert len(pq.read_table(out)) == len(popular_items)
