"""The overview links every report of a workspace and no other; if it cannot be written, the command goes on."""

import datetime as dt
import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from jobs.cli.cli import main
from jobs.nightly.outputs import write_night
from jobs.nightly.overview import render_overview, write_overview
from jobs.nightly.record import NightRecord
from jobs.workspace.manifest import Manifest
from jobs.workspace.workspace import Workspace
from tests.html_page import Page
from tests.jobs.nightly.nights import DAY, published_night

NAME = "20260306T235959-01234567"
EVIL = "<script>alert(1)</script>"


def publish(workspace: Workspace, name: str, forced: tuple[str, ...] = ()) -> None:
    """Publish a version that has only a report."""
    manifest = Manifest(
        version=name,
        fingerprint=name[-8:] * 4,
        as_of=dt.datetime(2026, 3, 6, 23, 59, 59, tzinfo=dt.UTC),
        config={},
        inputs={},
        code_version="c0de",
        metrics={"forced": list(forced)},
        summary={"nodes": 1234, "edges": {"swing": 5678}, "ads": {"rows": 9, "in_flight": 7}},
    )
    with workspace.lock(), workspace.scratch_folder() as staged:
        (staged / "graph").mkdir()
        (staged / "graph" / "report.html").write_text("a report")
        workspace.publish(staged, manifest)


def links(workspace: Workspace) -> list[str]:
    """Return the relative links of the overview."""
    targets = re.findall(r'href="([^"]+)"', render_overview(workspace))
    return [unquote(target) for target in targets if "://" not in target]


def test_every_link_leads_to_a_file(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "my shop")
    publish(workspace, "20260305T235959-89abcdef")
    publish(workspace, NAME)
    write_night(published_night(), workspace, [])
    workspace.write_file("quality/100% of <all>.html", b"a page")
    targets = links(workspace)
    assert {Path(workspace.uri) / target for target in targets} == {
        Path(workspace.uri) / path
        for path in (
            *(f"versions/{name}/graph/report.html" for name in (NAME, "20260305T235959-89abcdef")),
            *(f"nights/{DAY}/report.html", "quality/100% of <all>.html"),
        )
    }
    assert all((Path(workspace.uri) / target).is_file() for target in targets)
    page = Page((Path(workspace.uri) / "index.html").read_text())
    assert f"Published: {NAME}, as of 2026-03-06 23:59 UTC." in page.text
    assert ["2026-03-06", "Published", NAME] in page.rows()
    assert [f"{NAME} published", "2026-03-06 23:59", "1,234", "5,678", "7", "graph · night", ""] in page.rows()
    assert f"lightsage serve --workspace {workspace.uri}" in page.text


def test_what_needs_a_person_comes_first(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert "Nothing is published yet." in Page(render_overview(workspace)).text
    assert links(workspace) == []
    publish(workspace, NAME, forced=("edges",))
    write_night(NightRecord(date=DAY, outcome="refused", error=EVIL), workspace, [])
    text = Page(render_overview(workspace)).text
    assert "The published version was published with --force, against: edges." in text
    assert "The last night, 2026-03-06: refused by its gates." in text
    assert EVIL not in render_overview(workspace)


def test_the_command_writes_it_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--workspace", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"overview: {tmp_path}/index.html\n"
    assert (tmp_path / "index.html").is_file()


def test_an_overview_that_cannot_be_written_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "index.html").mkdir()
    assert not write_overview(Workspace(tmp_path))
    assert "index.html of workspace" in caplog.text
