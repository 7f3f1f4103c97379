"""`run`, `ingest` and `forget`: what they publish and store, and that unchanged input is not built again."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from jobs.cli.cli import main


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


def test_the_as_of_time_is_the_last_valid_event_and_not_the_end_of_its_day(shop):
    manifest = json.loads((shop.version / "manifest.json").read_text())
    events = pq.read_table(shop.files.events)
    valid = pc.and_(pc.is_valid(events["session_id"]), pc.is_valid(events["item_id"]))
    last = pc.max(events.filter(valid)["timestamp"]).as_py()
    assert pa.scalar(manifest["as_of"]).as_py()[:19] == last.isoformat()[:19]


def test_a_second_run_with_unchanged_input_builds_nothing(shop, capsys):
    before = sorted(p.name for p in (shop.workspace / "versions").iterdir())
    assert main(["run", *shop.arguments]) == 0
    assert sorted(p.name for p in (shop.workspace / "versions").iterdir()) == before
    assert "nothing changed" in capsys.readouterr().err


@pytest.mark.slow
def test_a_version_from_stored_days_has_the_same_graph_as_one_from_all_events(shop, tmp_path, capsys):
    workspace = tmp_path / "workspace"
    tables = ["--items", str(shop.files.items), "--ads", str(shop.files.ads)]
    assert main(["run", "--stored-days", "--workspace", str(workspace), *tables]) == 2
    assert "days.json" in capsys.readouterr().err
    assert main(["ingest", "--events", str(shop.files.events), "--workspace", str(workspace)]) == 0
    assert "stored 2026-03-02, " in capsys.readouterr().out
    assert main(["run", "--stored-days", "--workspace", str(workspace), *tables]) == 0
    (version,) = (workspace / "versions").iterdir()
    expected, summary = (json.loads((v / "graph" / "summary.json").read_text()) for v in (shop.version, version))
    for name in ("edges", "nodes", "tail", "transitions", "sessions", "as_of"):
        assert summary[name] == expected[name], name
    assert main(["forget", "--user", "nobody", "--workspace", str(workspace)]) == 0
    assert "0 sessions deleted" in capsys.readouterr().out
    assert main(["run", "--stored-days", "--events", "e", "--workspace", str(workspace)]) == 2


@pytest.mark.slow
def test_a_version_can_be_built_from_an_existing_graph(shop, tmp_path, capsys):
    workspace = tmp_path / "workspace"
    assert main(["run", "--graph", str(shop.version / "graph"), "--workspace", str(workspace)]) == 0
    (version,) = (workspace / "versions").iterdir()
    for name in ("graph/summary.json", "embeddings/item_ids.parquet"):
        assert (version / name).read_bytes() == (shop.version / name).read_bytes()
    assert main(["run", "--graph", str(tmp_path), "--workspace", str(workspace)]) == 2
    assert "holds no summary.json" in capsys.readouterr().err
    assert main(["run", "--graph", "g", "--events", "e", "--workspace", str(workspace)]) == 2
    assert main(["run", "--workspace", str(workspace)]) == 2
