"""A night from a graph that was built elsewhere: its gates, its parent and its report are those of any night."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from graph_build.summary import GraphSummary
from jobs.cli.cli import main
from jobs.pipeline import graph_stage
from jobs.workspace.workspace import Workspace
from tests.jobs.nightly import stub_stages
from tests.jobs.nightly.workspaces import FIRST, Night

DAY = dt.date(2026, 3, 6)


def write_graph(folder: Path, day: dt.date = DAY, *, held_from: dt.datetime | None = None, good: bool = True) -> Path:
    """Write a graph of a day and the day before as a cluster leaves it; the stubbed stages read `content.json`."""
    midnight = dt.datetime.combine(day, dt.time(), dt.UTC)
    starts = [midnight + dt.timedelta(hours=hour) for hour in (-30, -1, 0, 23)]
    held = [start >= (held_from or midnight) for start in starts]
    (folder / "sessions").mkdir(parents=True)
    times = pa.array(starts, pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"start": times, "held": held}), folder / "sessions" / "part-0.parquet")
    (folder / "sessions" / "_SUCCESS").touch()
    (folder / "full").mkdir()
    content = {str(day): {"text": str(day), "good": good}}
    (folder / "full" / "content.json").write_text(json.dumps(content))
    summary = GraphSummary(
        as_of=starts[-1],
        events={},
        quarantined={"events": {"no_item": 3}},
        nodes=50,
        tail=10,
        edges={"swing": 100, "co_search": 100},
        transitions={},
        sessions=20,
        holdout_sessions=2,
        capped={},
        ads={},
        doubts=["a doubt of the cluster"],
        isolated=1,
    )
    (folder / "summary.json").write_text(summary.to_json())
    return folder


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    stub_stages.install(monkeypatch)
    return Workspace(tmp_path / "shop")


def night(workspace: Workspace, graph: object, *flags: str, day: dt.date = DAY) -> int:
    return main(["nightly", "--date", str(day), "--graph", str(graph), "--workspace", workspace.uri, *flags])


def record(workspace: Workspace, day: dt.date = DAY) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(workspace.read_file(f"nights/{day}/night.json") or b"")
    return content


def test_nights_from_graphs_follow_each_other_and_report(workspace: Workspace, tmp_path: Path) -> None:
    next_day = DAY + dt.timedelta(days=1)
    for day in (DAY, next_day):
        write_graph(tmp_path / "graphs [1] *" / str(day), day)
    pattern = tmp_path / "graphs [1] *" / "{date}"
    assert night(workspace, pattern) == 0
    first = workspace.current()
    assert night(workspace, pattern, day=next_day) == 0
    second = record(workspace, next_day)
    assert (second["outcome"], second["parent"], second["warm"]) == ("published", first, True)
    assert second["doubts"] == ["a doubt of the cluster"]
    assert second["quarantined"] == {"events": {"no_item": 3}}
    assert "graph: copy" in [stage["name"] for stage in second["stages"]]
    assert {gate["name"] for gate in second["gates"]} >= {"items", "neighbours of the probes that stay"}
    assert workspace.manifest(second["version"]).inputs["graph"]
    assert str(next_day) in (workspace.read_file(f"nights/{next_day}/report.html") or b"").decode()
    assert night(workspace, pattern, day=next_day) == 0
    assert workspace.current() == second["version"], "the same night is not built again"


def test_gates_refuse_a_night_from_a_graph(workspace: Workspace, tmp_path: Path) -> None:
    assert night(workspace, write_graph(tmp_path / "graph", good=False)) == 4
    assert workspace.versions() == []
    assert record(workspace)["outcome"] == "refused"


def test_a_graph_of_another_day_or_with_another_hold_out_is_refused(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    early = dt.datetime.combine(DAY, dt.time(), dt.UTC) - dt.timedelta(hours=2)
    late = early + dt.timedelta(hours=20)
    for graph, words in (
        (write_graph(tmp_path / "a", DAY - dt.timedelta(days=1)), f"not of {DAY}: build it with --date {DAY}"),
        (write_graph(tmp_path / "b", DAY + dt.timedelta(days=1)), f"not of {DAY}"),
        (write_graph(tmp_path / "c", held_from=early), f"--holdout-day {DAY}"),
        (write_graph(tmp_path / "d", held_from=late), f"--holdout-day {DAY}"),
        (tmp_path, "holds no summary.json"),
    ):
        capsys.readouterr()
        assert night(workspace, graph) == 2
        assert words in capsys.readouterr().err
    assert night(workspace, tmp_path / "a", "--events", "e") == 2
    assert "give only --graph" in capsys.readouterr().err


def test_the_days_of_a_zone_are_its_own(tmp_path: Path) -> None:
    from jobs.errors import NightError

    graph = write_graph(tmp_path / "graph")
    graph_stage.check_night_graph(str(graph), DAY, "UTC")
    with pytest.raises(NightError):
        graph_stage.check_night_graph(str(graph), DAY, "Asia/Tokyo")


@pytest.mark.slow
@pytest.mark.thorough
def test_the_graph_of_a_real_night_gives_the_same_night_without_spark(first: Night, tmp_path: Path) -> None:
    graph = Workspace(first.workspace).open(first.current).path / "graph"
    arguments = ["nightly", "--date", FIRST, "--graph", str(graph), "--workspace", str(tmp_path / "shop")]
    assert main(arguments) == 0
    again = json.loads((tmp_path / "shop" / "nights" / FIRST / "night.json").read_text())
    before = first.record(FIRST)
    for name in ("outcome", "edges", "figures", "ads", "degrees"):
        assert again[name] == before[name], name
    quality = [
        {(row["model"], row["slice"], row["metric"], row["k"]): row["value"] for row in night["quality"]}
        for night in (again, before)
    ]
    assert quality[0] == pytest.approx(quality[1], abs=0.05)
    assert [gate["name"] for gate in again["gates"]] == [gate["name"] for gate in before["gates"]]
