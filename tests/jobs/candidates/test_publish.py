"""A version that was built beside the published one is published if it passes the gates, or by force."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.cli.cli import main
from jobs.nightly.versions import list_versions
from tests.jobs.candidates.conftest import Variants


def unchanged(_: Path) -> None:
    """Leave a variant as it is: it serves what the published version serves."""


def spoiled(folder: Path) -> None:
    """Make the vectors of a variant too long."""
    path = folder / "embeddings" / "item.npy"
    np.save(path, 2 * np.load(path))


def shuffled(folder: Path) -> None:
    """Give the items of a variant the vectors of other items."""
    path = folder / "index" / "item.npy"
    np.save(path, np.random.default_rng(0).permutation(np.load(path)))


def publish(variants: Variants, name: str, *flags: str) -> int:
    return main(["publish", name, "--workspace", variants.workspace.uri, *flags])


def gates(variants: Variants, name: str) -> dict[str, Any]:
    return {gate["name"]: gate for gate in variants.workspace.manifest(name).metrics["gates"]}


def test_a_version_that_passes_its_gates_is_published_and_can_be_rolled_back(
    variants: Variants, capsys: pytest.CaptureFixture[str]
) -> None:
    before, name = variants.current, variants.add("1", unchanged)
    assert publish(variants, name) == 0
    output = capsys.readouterr().out
    assert f"published {name} instead of {before}" in output
    assert "hits on later events" in output
    assert variants.current == name
    assert [version.name for version in list_versions(variants.workspace)] == [before, name]
    result = gates(variants, name)
    assert result["neighbours of the probes that stay"]["found"] == 1
    assert not result["items"]["judged"], "no night says what is usual"
    assert not result["hits on later events"]["judged"]
    assert publish(variants, name) == 0
    assert "is published already" in capsys.readouterr().out
    assert main(["rollback", "--workspace", variants.workspace.uri]) == 0
    assert variants.current == before
    capsys.readouterr()
    assert publish(variants, name) == 2
    assert f"`lightsage rollback --to {name}`" in capsys.readouterr().err


def test_a_failed_gate_keeps_the_published_version_and_force_is_recorded(
    variants: Variants, capsys: pytest.CaptureFixture[str]
) -> None:
    before, name = variants.current, variants.add("1", spoiled)
    assert publish(variants, name) == 4
    error = capsys.readouterr().err
    assert "largest error of a vector's length" in error
    assert "--force" in error
    assert variants.current == before
    assert variants.workspace.unpublished() == [name]
    assert publish(variants, name, "--force") == 0
    assert variants.current == name
    assert variants.workspace.manifest(name).metrics["forced"] == ["largest error of a vector's length"]
    assert json.loads((variants.workspace.open(name).path / "manifest.json").read_text())["publication"] == 2


def test_later_events_judge_the_hits(variants: Variants, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = variants.add("1", unchanged), variants.add("2", shuffled)
    events = ["--events", *variants.events]
    assert publish(variants, bad, *events) == 4
    assert "HR@100 to the published version's, all" in capsys.readouterr().err
    assert publish(variants, good, *events) == 0
    result = gates(variants, good)
    assert result["HR@100 to the published version's, all"]["found"] == 1
    assert result["HR@100 to the published version's, tail"]["judged"]
    assert [name for name in result if "best counting peer" in name]
    assert result["coverage@20"]["judged"]
    capsys.readouterr()
    third = variants.add("3", unchanged)
    assert publish(variants, third, "--events", str(variants.shop.files.events)) == 2
    assert "not after the version's as-of time" in capsys.readouterr().err
    assert publish(variants, "nothing") == 2
