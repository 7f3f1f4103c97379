"""The commands as a user types them, on a small marketplace: what they write, and that they say it again alike."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from jobs.cli.cli import main

OUT = ["query_id", "rank", "item_id", "ad_id", "score", "reason"]


def queries(path: Path, rows: list[dict[str, object]]) -> str:
    kinds = {"query_id": pa.string(), "item_ids": pa.list_(pa.string()), "at": pa.timestamp("us", "UTC")}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in rows[0]])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return str(path)


@pytest.fixture(scope="module")
def known(shop) -> list[str]:
    items = pq.read_table(shop.version / "index" / "items.parquet")
    return items.sort_by([("events", "descending")])["item_id"].to_pylist()


def test_run_publishes_every_artefact_with_checksums(shop):
    manifest = json.loads((shop.version / "manifest.json").read_text())
    for part in ("graph/full/edges/", "graph/fit/nodes/", "model/weights.safetensors", "embeddings/item.npy", "index/"):
        assert any(name.startswith(part) for name in manifest["files"]), part
    assert all(len(record["sha256"]) == 64 for record in manifest["files"].values())
    assert manifest["metrics"]["validation"]["steps"] > 0


def test_every_catalogue_item_has_an_embedding(shop):
    items = pq.read_table(shop.files.items)["item_id"]
    rows = pq.read_table(shop.version / "embeddings" / "item_ids.parquet")["item_id"]
    assert set(items.to_pylist()) <= set(rows.to_pylist())
    norms = np.linalg.norm(np.load(shop.version / "embeddings" / "item.npy"), axis=1)
    assert np.allclose(norms, 1, atol=1e-3)


def test_as_of_is_the_last_valid_event_not_the_end_of_its_day(shop):
    manifest = json.loads((shop.version / "manifest.json").read_text())
    events = pq.read_table(shop.files.events)
    valid = pc.and_(pc.is_valid(events["session_id"]), pc.is_valid(events["item_id"]))
    last = pc.max(events.filter(valid)["timestamp"]).as_py()
    assert pa.scalar(manifest["as_of"]).as_py()[:19] == last.isoformat()[:19]


def test_the_same_run_again_is_recognised_and_not_built_twice(shop, capsys):
    before = sorted(p.name for p in (shop.workspace / "versions").iterdir())
    assert main(["run", *shop.arguments]) == 0
    assert sorted(p.name for p in (shop.workspace / "versions").iterdir()) == before
    assert "nothing changed" in capsys.readouterr().err


@pytest.mark.slow
def test_nights_from_stored_days_end_in_the_version_that_all_events_give(shop, tmp_path, capsys):
    workspace = tmp_path / "workspace"
    items = ["--items", str(shop.files.items), "--ads", str(shop.files.ads)]
    assert main(["run", "--stored-days", "--workspace", str(workspace), *items]) == 2
    assert "days.json" in capsys.readouterr().err
    assert main(["ingest", "--events", str(shop.files.events), "--workspace", str(workspace)]) == 0
    assert "stored 2026-03-02, " in capsys.readouterr().out
    assert main(["run", "--stored-days", "--workspace", str(workspace), *items]) == 0
    (version,) = (workspace / "versions").iterdir()
    there, here = (json.loads((v / "graph" / "summary.json").read_text()) for v in (shop.version, version))
    assert {name: there[name] for name in ("edges", "nodes", "tail", "transitions", "sessions", "as_of")} == {
        name: here[name] for name in ("edges", "nodes", "tail", "transitions", "sessions", "as_of")
    }
    assert main(["forget", "--user", "nobody", "--workspace", str(workspace)]) == 0
    assert "0 sessions deleted" in capsys.readouterr().out
    assert main(["run", "--stored-days", "--events", "e", "--workspace", str(workspace)]) == 2


def test_a_graph_that_was_built_elsewhere_is_gone_on_from(shop, tmp_path, capsys):
    workspace = tmp_path / "workspace"
    assert main(["run", "--graph", str(shop.version / "graph"), "--workspace", str(workspace)]) == 0
    (version,) = (workspace / "versions").iterdir()
    for name in ("graph/summary.json", "embeddings/item_ids.parquet"):
        assert (version / name).read_bytes() == (shop.version / name).read_bytes()
    assert main(["run", "--graph", str(tmp_path), "--workspace", str(workspace)]) == 2
    assert "holds no summary.json" in capsys.readouterr().err
    assert main(["run", "--graph", "g", "--events", "e", "--workspace", str(workspace)]) == 2
    assert main(["run", "--workspace", str(workspace)]) == 2


def test_an_items_neighbourhood_is_drawn(shop, known, tmp_path, capsys):
    page, gexf = tmp_path / "ego.html", tmp_path / "ego.gexf"
    base = ["--workspace", str(shop.workspace), "--output", str(page), "--gexf", str(gexf)]
    assert main(["graph", "show", known[0], *base]) == 0
    assert page.read_text().startswith("<!doctype html>")
    assert gexf.exists()
    assert main(["graph", "show", "nobody", *base]) == 2
    assert "'nobody'" in capsys.readouterr().err
    assert main(["graph", "show", known[0], *base, "--gexf", str(tmp_path)]) == 2
    assert f"--gexf {tmp_path} cannot be used" in capsys.readouterr().err


def test_retrieve_writes_ranked_eligible_rows(shop, known, tmp_path):
    asked = queries(
        tmp_path / "q.parquet",
        [
            {"query_id": "one", "item_ids": known[:1], "country": None},
            {"query_id": "many", "item_ids": known[1:4], "country": "DE"},
            {"query_id": "none", "item_ids": ["no-such-item"], "country": None},
        ],
    )
    out = tmp_path / "deep" / "out.parquet"
    arguments = ["retrieve", "--workspace", str(shop.workspace), "--queries", asked, "--k", "10", "--output", str(out)]
    assert main(arguments) == 0
    table = pq.read_table(out)
    assert table.column_names == OUT
    for query, last in (("one", known[0]), ("many", known[3]), ("none", None)):
        rows = table.filter(pc.equal(table["query_id"], query))
        assert rows["rank"].to_pylist() == list(range(1, 11))
        scores = rows["score"].to_pylist()
        assert scores == sorted(scores, reverse=True)
        assert last not in rows["item_id"].to_pylist()
        assert len(set(rows["item_id"].to_pylist())) == 10
        assert (set(rows["reason"].to_pylist()) == {"fallback"}) == (query == "none")
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


def test_retrieve_beyond_the_catalogue_returns_all_that_exist(shop, known, tmp_path):
    asked = queries(tmp_path / "q.parquet", [{"query_id": "q", "item_ids": known[:1]}])
    out = tmp_path / "out.parquet"
    base = ["retrieve", "--workspace", str(shop.workspace), "--queries", asked, "--k", "1000000", "--all-items"]
    assert main([*base, "--output", str(out)]) == 0
    assert len(pq.read_table(out)) == len(known) - 1
    assert pq.read_table(out)["ad_id"].null_count == len(known) - 1
    assert main([*base, "--include-current", "--output", str(out)]) == 0
    assert len(pq.read_table(out)) == len(known)


def test_evaluate_reports_every_slice_and_beats_counting(shop, tmp_path):
    report = tmp_path / "report.json"
    base = ["evaluate", "--workspace", str(shop.workspace), "--events", str(shop.files.test_events)]
    assert main([*base, "--baselines", "--output", str(report)]) == 0
    result = json.loads(report.read_text())
    assert set(result) == {"version", "as_of", "protocol", "rows"}
    cells = {(r["model"], r["slice"], r["metric"], r["k"]): r for r in result["rows"]}
    for part in ("all", "tail", "cold"):
        row = cells["LightSAGE", part, "HR", 100]
        assert row["n"] > 0
        assert row["low"] <= row["value"] <= row["high"]
        peers = [cells[m, part, "HR", 100]["value"] for m in ("transitions", "rules", "item-kNN", "popularity")]
        assert row["value"] > max(peers), part


def test_evaluate_on_ads_in_flight(shop, tmp_path):
    report = tmp_path / "report.json"
    base = ["evaluate", "--workspace", str(shop.workspace), "--events", str(shop.files.test_events)]
    assert main([*base, "--ads-only", "--output", str(report)]) == 0
    assert {"ads"} >= {r["slice"] for r in json.loads(report.read_text())["rows"]}


def test_evaluate_refuses_events_that_the_version_has_seen(shop, refused):
    said = refused("evaluate", "--workspace", shop.workspace, "--events", shop.files.events)
    assert "not after the version's as-of time" in said
    assert "--allow-overlap" in said
