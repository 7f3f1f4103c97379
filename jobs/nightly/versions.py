"""`lightsage versions`, `rollback`, `diff`: what is published, going back, and what changed between two versions."""

import datetime as dt
import logging
from dataclasses import dataclass
from typing import Any

from jobs.config import Config
from jobs.errors import CorruptVersionError, FormatVersionError, NoVersionError, StoreError
from jobs.workspace.server_leases import served
from jobs.workspace.workspace import Workspace

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listed:
    """A version, as `versions` shows it. wrong: why it cannot be read."""

    name: str
    current: bool
    as_of: dt.datetime | None = None
    created_at: dt.datetime | None = None
    parent: str | None = None
    items: int | None = None
    edges: int | None = None
    forced: tuple[str, ...] = ()
    wrong: str | None = None


def listed(workspace: Workspace) -> list[Listed]:
    """All versions, oldest first."""
    try:
        current: str | None = workspace.current()
    except (NoVersionError, CorruptVersionError):
        current = None
    found = []
    for name in workspace.versions():
        try:
            manifest = workspace.manifest(name)
            if workspace.local(name):  # elsewhere its files would have to be downloaded
                workspace.open(name)
        except (CorruptVersionError, FormatVersionError) as error:
            found.append(Listed(name, name == current, wrong=str(error)))
            continue
        found.append(
            Listed(
                name,
                name == current,
                manifest.as_of,
                manifest.created_at,
                manifest.config.get("parent"),
                manifest.summary.get("nodes"),
                sum(manifest.summary.get("edges", {}).values()),
                tuple(manifest.metrics.get("forced", ())),
            )
        )
    return found


def rollback(workspace: Workspace, to: str | None) -> tuple[str, str]:
    """Publish an earlier version again, by default the one that the current one came from; returns (before, now).

    Raises:
        StoreError: there is no such version, or it is damaged.
    """
    with workspace.lock():
        before = workspace.current()
        if to is None:
            to = _came_from(workspace, before)
        workspace.open(to, verify=True)
        workspace.promote(to)
    log.info("%s is published instead of %s", to, before)
    return before, to


def _came_from(workspace: Workspace, name: str) -> str:
    try:
        parent = workspace.manifest(name).config.get("parent")
    except (CorruptVersionError, FormatVersionError):
        parent = None
    older = [version for version in workspace.versions() if version < name]
    if parent in older:
        return str(parent)
    if not older:
        raise StoreError(f"workspace {workspace.uri} has no version before {name}")
    return older[-1]


def clear_old(workspace: Workspace, keep: int) -> list[str]:
    """Delete all but the newest `keep` versions; never the current one, its parent, or what a server says it serves.

    Returns:
        The versions deleted. One that cannot be deleted is left, and said.
    """
    current = workspace.current()
    kept = {current, *workspace.versions()[-keep:], *served(workspace)}
    try:
        kept.add(str(workspace.manifest(current).config.get("parent")))
    except StoreError as error:
        log.warning("%s", error)
    removed = []
    for name in workspace.versions():
        if name in kept:
            continue
        try:
            workspace.remove(name)
        except OSError as error:
            log.warning("version %s cannot be deleted: %s", name, error)
            continue
        removed.append(name)
    if removed:
        log.info("old versions deleted: %s", ", ".join(removed))
    return removed


def diff(workspace: Workspace, one: str, other: str, config: Config) -> dict[str, Any]:
    """What changed from one version to the other: settings, inputs, counts, items, ads, and neighbours.

    Raises:
        StoreError: one of them is not there, or damaged.
    """
    from jobs.nightly.drift import neighbour_overlap
    from retrieval.index_folder import read_index

    versions = [workspace.open(name, verify=True, parts=("index",)) for name in (one, other)]
    first, second = (version.manifest for version in versions)
    settings = [_flat(manifest.config) for manifest in (first, second)]
    indexes = [read_index(version.path / "index") for version in versions]
    items = [set(index.catalogue.item_ids) for index in indexes]
    ads = [set() if index.ads is None else set(index.ads.ad_ids) for index in indexes]
    counts = [_flat(manifest.summary) for manifest in (first, second)]
    return {
        "versions": [one, other],
        "as_of": [first.as_of.isoformat(), second.as_of.isoformat()],
        "code_changed": first.code_version != second.code_version,
        "settings": {key: [settings[0].get(key), settings[1].get(key)] for key in _changed(*settings)},
        "counts": {
            key: [counts[0].get(key), counts[1].get(key)]
            for key in _changed(*counts)
            if isinstance(counts[1].get(key, counts[0].get(key)), int)
        },
        "items": {"new": len(items[1] - items[0]), "gone": len(items[0] - items[1]), "both": len(items[0] & items[1])},
        "ads": {"new": len(ads[1] - ads[0]), "gone": len(ads[0] - ads[1]), "both": len(ads[0] & ads[1])},
        "neighbours_that_stay": neighbour_overlap(
            versions[1].path / "index", versions[0].path / "index", config, config.nightly.probes
        ),
    }


def _changed(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return sorted(key for key in {*one, *other} if one.get(key) != other.get(key))


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    found: dict[str, Any] = {}
    for key, inner in value.items():
        if key not in ("days", "stages"):
            found |= _flat(inner, f"{name}.{key}" if name else str(key))
    return found
