"""The overview of a workspace: one page, `index.html`, with links to all reports and the command of the server."""

import datetime as dt
import logging
import os
from typing import Any

from jobs.nightly.record import NightRecord, records
from jobs.nightly.report import OUTCOMES
from jobs.nightly.versions import VersionInfo, list_versions
from jobs.workspace.workspace import Workspace

log = logging.getLogger(__name__)

PAGE = "index.html"
QUALITY = "quality"
"""The folder of the workspace for pages of quality, such as those that `evaluate --html` writes."""
MOST_NIGHTS = 60


def write_overview(workspace: Workspace) -> bool:
    """Write the page anew, and return whether this succeeded; if not, a warning says why.

    The reports exist even without the page, so a build must not fail if the page cannot be written.
    """
    try:
        workspace.write_file(PAGE, render_overview(workspace).encode())
    except Exception as error:
        log.warning("the overview %s of workspace %s cannot be written: %s", PAGE, workspace.uri, error)
        return False
    return True


def render_overview(workspace: Workspace) -> str:
    """Render the page; all its links are relative to the workspace."""
    from graph_build.report.pages import render_page

    root = workspace.local_path("")
    name = workspace.uri if root is None else os.path.abspath(root)
    versions = list_versions(workspace)[::-1]
    nights = records(workspace)[::-1][:MOST_NIGHTS]
    current = next((version for version in versions if version.current), None)
    return render_page(
        "overview.html.j2",
        package="jobs.nightly",
        name=name,
        serve=f"lightsage serve --workspace {name}",
        findings=_findings(current, versions, nights),
        current=current,
        versions=versions,
        nights=nights,
        night_of={night.version: night for night in nights if night.outcome == "published"},
        quality=sorted(name.removesuffix(".html") for name in workspace.names(QUALITY) if name.endswith(".html")),
        outcomes=OUTCOMES,
        minute=_minute,
        written=dt.datetime.now(dt.UTC),
        terms={},
    )


def _findings(current: VersionInfo | None, versions: list[VersionInfo], nights: list[NightRecord]) -> list[str]:
    findings = ["Nothing is published yet."] if current is None else list(current.remarks)
    findings += [f"{version.name} cannot be read: {version.damage}." for version in versions if version.damage]
    if current is not None and current.forced:
        findings.append(f"The published version was published with --force, against: {', '.join(current.forced)}.")
    if current is not None and current.ads == 0:
        findings.append("No ad of the published version can be shown at its as-of time.")
    if nights and nights[0].outcome in ("refused", "failed", "held"):
        findings.append(f"The last night, {nights[0].date}: {OUTCOMES[nights[0].outcome].lower()}.")
    return findings


def _minute(time: Any) -> str:
    return "" if time is None else f"{time:%Y-%m-%d %H:%M}"
