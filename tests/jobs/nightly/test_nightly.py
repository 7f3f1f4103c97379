"""Nights on a small marketplace: what they publish, what they refuse, and what a later attempt reuses."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs.cli.cli import main
from jobs.nightly import nightly
from jobs.nightly.parent import unreadable_part
from tests.jobs.faults import broken_stage
from tests.jobs.nightly.workspaces import DAYS, FIRST, SECOND, Night


def test_the_first_night_is_published_and_reports(first: Night) -> None:
    record = first.record(FIRST)
    assert record["outcome"] == "published"
    assert record["version"] == first.current
    assert record["parent"] is None
    assert not record["warm"]
    assert {row["model"] for row in record["quality"]} == {"fit", "transitions", "rules", "item-kNN", "popularity"}
    assert all(gate["passed"] for gate in record["gates"])
    assert set(record["days"]) == set(DAYS[:-1])
    folder = first.workspace / "nights"
    assert "Published" in (folder / FIRST / "report.html").read_text()
    assert 'lightsage_night_outcome{outcome="published"} 1.0' in (folder / "lightsage.prom").read_text()
    assert not (folder / FIRST / "work").exists()
    assert first.intact()


@pytest.mark.slow
def test_a_failed_night_continues_after_its_finished_stages(stopped: Night, first: Night) -> None:
    record = stopped.record(SECOND)
    assert (record["outcome"], record["error"]) == ("failed", "fit")
    assert stopped.current == first.current
    assert "is still served" in (stopped.workspace / "nights" / SECOND / "report.html").read_text()
    assert stopped.run(SECOND) == 0
    record = stopped.record(SECOND)
    assert record["reused"] == ["ingest", "graph"]
    assert record["outcome"] == "published"
    assert record["parent"] == first.current
    assert record["warm"]
    assert record["overlap"] > 0.2
    assert {"fit", "published"} <= {row["model"] for row in record["quality"]}
    version = stopped.workspace / "versions" / stopped.current
    manifest = json.loads((version / "manifest.json").read_text())
    assert manifest["config"]["parent"] == first.current
    assert all(gate["passed"] for gate in manifest["metrics"]["gates"])
    # The same date again: the night is recognised by its inputs, though the outputs of its stages are deleted.
    assert stopped.run(SECOND) == 0
    assert stopped.record(SECOND) == record, "re-running a published date keeps its record"
    assert 'outcome="unchanged"} 1.0' in (stopped.workspace / "nights" / "lightsage.prom").read_text()
    assert len(list((stopped.workspace / "versions").iterdir())) == 2
    # An earlier night does not replace a later one.
    assert stopped.run(FIRST) == 2
    assert stopped.record(FIRST)["outcome"] == "published"


@pytest.mark.slow
def test_a_failed_gate_keeps_the_served_version_and_force_is_recorded(
    stopped: Night, first: Night, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strict = tmp_path / "strict.toml"
    strict.write_text("[nightly]\noverlap = 1.0\n")
    assert stopped.run(SECOND, "--config", strict) == 4
    assert "neighbours of the probes that stay: found 0." in capsys.readouterr().err
    assert stopped.current == first.current
    record = stopped.record(SECOND)
    assert record["outcome"] == "refused"
    assert "allowed at least 1" in record["error"]
    page = (stopped.workspace / "nights" / SECOND / "report.html").read_text()
    assert "Refused by its gates" in page
    assert stopped.run(SECOND, "--config", strict, "--force") == 0
    assert stopped.record(SECOND)["reused"] == ["ingest", "graph", "fit", "judge", "refit", "index"]
    manifest = json.loads((stopped.workspace / "versions" / stopped.current / "manifest.json").read_text())
    assert manifest["metrics"]["forced"] == ["neighbours of the probes that stay"]
    # A rollback was a decision: the version is not published again without --force.
    assert main(["rollback", "--workspace", str(stopped.workspace)]) == 0
    assert stopped.run(SECOND, "--config", strict) == 4
    assert "published only with --force" in capsys.readouterr().err
    assert stopped.current == first.current
    assert stopped.record(SECOND)["outcome"] == "published", "re-running a published date keeps its record"


@pytest.mark.slow
def test_a_forgotten_user_is_in_no_graph_of_a_resumed_night(stopped: Night) -> None:
    events = pq.read_table(stopped.root / "log" / FIRST / "events.parquet")
    user = events["user_id"].drop_null()[0].as_py()
    assert main(["forget", "--user", user, "--workspace", str(stopped.workspace)]) == 0
    with pytest.MonkeyPatch.context() as patch, broken_stage(patch, "graph"):
        assert stopped.run(SECOND) == 1, "the graph is built again"
    assert stopped.record(SECOND)["reused"] == ["ingest"]


@pytest.mark.slow
def test_old_versions_that_cannot_be_deleted_do_not_undo_a_night(
    stopped: Night, first: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object) -> None:
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(nightly, "delete_old_versions", busy)
    assert stopped.run(SECOND) == 0
    record = stopped.record(SECOND)
    assert (record["outcome"], record["version"]) == ("published", stopped.current)
    assert stopped.current != first.current
    assert any("could not be deleted: Operation not permitted" in doubt for doubt in record["doubts"])


def test_a_part_in_another_format_is_recognised(first: Night, tmp_path: Path) -> None:
    version = tmp_path / "version"
    shutil.copytree(first.workspace / "versions" / first.current, version)
    assert unreadable_part(version) is None
    for part, key in (("index", "format"), ("embeddings", "format_version")):
        meta = version / part / "meta.json"
        content = meta.read_text()
        meta.write_text(json.dumps(json.loads(content) | {key: 99}))
        assert "99" in (unreadable_part(version) or "")
        meta.write_text(content)


@pytest.mark.slow
def test_an_unreadable_parent_is_ignored_with_a_warning(stopped: Night, first: Night) -> None:
    broken = stopped.workspace / "versions" / first.current / "embeddings" / "item.npy"
    broken.write_bytes(broken.read_bytes()[:-100])
    assert stopped.run(SECOND) == 0
    record = stopped.record(SECOND)
    assert record["outcome"] == "published"
    assert record["parent"] is None
    assert any("cannot be read" in doubt for doubt in record["doubts"])
    assert stopped.intact()
