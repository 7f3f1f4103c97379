"""Two versions are compared on the same questions, and each gets the same values as when it is evaluated alone."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from jobs.candidates import frontier
from jobs.candidates.compare import compare_versions
from jobs.candidates.contenders import CompareOptions, Contender
from jobs.cli.cli import main
from jobs.config import Config
from jobs.errors import NoVersionError
from jobs.pipeline.evaluate import EvaluateOptions, OverlapError, evaluate_version
from tests.html_page import Page
from tests.jobs.candidates.conftest import Variants
from tests.jobs.conftest import ignore_progress


def compared(variants: Variants, first: str, second: str, events: list[str] | None = None, **options: Any) -> Any:
    config = Config()
    contenders = [Contender.open(variants.workspace, name, config) for name in (first, second)]
    return compare_versions(contenders, events or variants.events, config, CompareOptions(**options), ignore_progress)


def evaluated(variants: Variants, name: str, **options: Any) -> dict[tuple[str, str, int], tuple[Any, int]]:
    version = variants.workspace.open(name)
    result = evaluate_version(
        version.path, name, variants.events, Config(), EvaluateOptions(**options), ignore_progress
    )
    return {(row["slice"], row["metric"], row["k"]): (row["value"], row["n"]) for row in result["rows"]}


@pytest.mark.parametrize("protocol", ["item", "session"])
def test_every_value_is_that_of_the_versions_own_evaluation(variants: Variants, protocol: str) -> None:
    other = variants.with_popularity("1", 0.4)
    result = compared(variants, variants.current, other, protocol=protocol)
    assert result["versions"] == [variants.current, other]
    assert result["settings"] == {"retrieval.popularity_weight": [None, 0.4]}
    rows = {(row["slice"], row["metric"], row["k"]): row for row in result["rows"]}
    for side, name in (("a", variants.current), ("b", other)):
        own = evaluated(variants, name, protocol=protocol) | evaluated(variants, name, protocol=protocol, ads_only=True)
        for cell, row in rows.items():
            assert (row[side], row["n"]) == (pytest.approx(own[cell][0]), own[cell][1]), cell
    assert {part for part, _, _ in rows} == {"all", "tail", "cold", "ads"}
    tail = rows["tail", "HR", 100]
    assert tail["difference"] == pytest.approx(tail["b"] - tail["a"])
    assert tail["low"] <= tail["difference"] <= tail["high"]
    assert rows["all", "HR", 20]["verdict"] == "worse", "so heavy a weight costs hits"
    assert {row["verdict"] for row in result["rows"] if row["metric"] == "coverage"} == {""}


def test_the_dial_of_a_version_is_what_versions_with_these_weights_find(
    variants: Variants, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frontier, "POPULARITY", (0.3,))
    other = variants.with_popularity("1", 0.3)
    result = compared(variants, variants.current, other, frontier=True)
    rows = {(row["slice"], row["metric"], row["k"]): row for row in result["rows"]}
    served = variants.workspace.manifest(variants.current).metrics["score_weights"]["popularity"]
    for dial, weight in zip(result["frontier"], (served, 0.3), strict=True):
        points = {point["popularity"]: point for point in dial}
        assert set(points) >= {0.0, 0.3}
        assert [at for at, point in points.items() if point["served"]] == [weight]
        for side, at in (("a", served), ("b", 0.3)):
            if at in points:
                expected = [rows[part, "HR", 100][side] for part in ("all", "tail")]
                assert [points[at]["all"], points[at]["tail"]] == pytest.approx(expected, abs=2e-4)


def test_events_that_a_version_has_seen_are_refused_and_it_is_named(variants: Variants) -> None:
    other = variants.with_popularity("1", 0.0)
    seen = [str(variants.shop.files.events)]
    with pytest.raises(OverlapError, match=variants.current):
        compared(variants, variants.current, other, events=seen)
    result = compared(variants, variants.current, other, events=seen, allow_overlap=True)
    assert len([note for note in result["notes"] if "may have learned from them" in note]) == 2
    with pytest.raises(NoVersionError, match="nothing"):
        compared(variants, variants.current, "nothing")


def test_the_command_writes_a_report_and_a_page(
    variants: Variants, tmp_path: Path, capsys: pytest.CaptureFixture[str], refused: Any
) -> None:
    other = variants.with_popularity("1", 0.4)
    report, page = tmp_path / "out" / "report.json", tmp_path / "out" / "page.html"
    arguments = ["compare", variants.current, other, "--events", *variants.events]
    where = ["--workspace", variants.workspace.uri]
    assert main([*arguments, *where, "--output", str(report), "--html", str(page)]) == 0
    content = json.loads(report.read_text())
    printed = capsys.readouterr().out
    for row in content["rows"]:
        assert f"{row['a']:.3f}" in printed
    html = Page(page.read_text())
    assert html.is_self_contained
    assert f"{other}, as served" in html.text
    assert ["retrieval.popularity_weight", "–", "0.4"] in html.rows()
    assert main(["evaluate", "--version", other, "--events", *variants.events, *where, "--output", str(report)]) == 0
    alone = json.loads(report.read_text())
    assert alone["version"] == other
    assert f"--html {tmp_path} is a folder" in refused(*arguments, *where, "--html", tmp_path)


def test_a_sample_of_sessions_keeps_their_items_and_times(variants: Variants) -> None:
    from jobs.pipeline.evaluation_events import read_events, sessions_of

    sessions = sessions_of(read_events(variants.events, Config().graph.input))
    some = frontier.sampled(sessions, 50, seed=0)
    assert len(some) == 50
    assert frontier.sampled(sessions, len(sessions), seed=0) is sessions

    def lists(table: Any) -> dict[str, tuple[list[str], list[int]]]:
        ends = table.offsets.tolist()
        items, times = table.item_ids.to_pylist(), table.times.tolist()
        spans = pairwise(ends)
        return {
            name: (items[start:end], times[start:end])
            for name, (start, end) in zip(table.session_ids.to_pylist(), spans, strict=True)
        }

    assert lists(some).items() <= lists(sessions).items()
