"""`lightsage versions`, `rollback` and `diff`: list versions, publish an earlier one again, and compare two."""

import datetime as dt
import logging
from dataclasses import dataclass, replace
from typing import Any

from jobs.config import Config
from jobs.errors import CorruptVersionError, FormatVersionError, NoVersionError, StoreError
from jobs.workspace.server_leases import served_versions
from jobs.workspace.workspace import Workspace

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VersionInfo:
    """One line of `lightsage versions`.

    Args:
        name: the name of the version.
        current: whether it is the published one.
        published: whether it is, or was, published.
        as_of: the as-of time of the version, UTC.
        created_at: when the version was built, UTC.
        parent: the version that its night followed.
        items: items in its graph.
        edges: edges in its graph.
        ads: ads in flight at the as-of time; None without an ads table, and if the manifest has no such count.
        forced: names of the gates that --force overrode.
        damage: why the version cannot be read; if it is set, only `name`, `current`, `published` and `remarks` are
            known.
        remarks: further facts about the version, in sentences.
    """

    name: str
    current: bool
    published: bool = True
    as_of: dt.datetime | None = None
    created_at: dt.datetime | None = None
    parent: str | None = None
    items: int | None = None
    edges: int | None = None
    ads: int | None = None
    forced: tuple[str, ...] = ()
    damage: str | None = None
    remarks: tuple[str, ...] = ()


def list_versions(workspace: Workspace) -> list[VersionInfo]:
    """Return the published versions in the order of publication, and then the unpublished ones."""
    try:
        current, doubt = workspace.published()
    except (NoVersionError, CorruptVersionError):
        current, doubt = "", None
    versions, rollbacks = [], workspace.rollbacks()
    unpublished = workspace.unpublished()
    for name in (*workspace.versions(), *unpublished):
        remarks = [doubt] if doubt and name == current else []
        if (entry := rollbacks.get(name)) and name != current:
            what = "not made current, because a person rolled back" if entry.held else "rolled back"
            remarks.append(f"{what} on {entry.at:%Y-%m-%d %H:%M} UTC")
        info = VersionInfo(name, name == current, name not in unpublished, remarks=tuple(remarks))
        try:
            manifest = workspace.manifest(name)
            if workspace.local_path(name):  # for a remote version, this would download its files
                workspace.open(name)
        except (CorruptVersionError, FormatVersionError) as error:
            versions.append(replace(info, damage=str(error)))
            continue
        versions.append(
            replace(
                info,
                as_of=manifest.as_of,
                created_at=manifest.created_at,
                parent=manifest.config.get("parent"),
                items=manifest.summary.get("nodes"),
                edges=sum(manifest.summary.get("edges", {}).values()),
                ads=ads["in_flight"] if (ads := manifest.summary.get("ads", {})).get("rows") else None,
                forced=tuple(manifest.metrics.get("forced", ())),
            )
        )
    return versions


def rollback(workspace: Workspace, to: str | None) -> tuple[str | None, str]:
    """Publish an earlier version again, and keep builds from undoing the rollback.

    If a night is being built at the same time, it goes on, but its version will not become current.

    Args:
        workspace: the workspace.
        to: name of the version; None = the parent of the current version or, if the parent is gone or was rolled back,
            the version that was published before the current one.

    Returns:
        The names of the version published before and of the version published now. The first name is None if `current`
        is missing or damaged.

    Raises:
        StoreError: there is no such version, or it is damaged.
    """
    try:
        before: str | None = workspace.pointer().version
    except (NoVersionError, CorruptVersionError):
        if to is None:
            raise
        before = None
    if to is None:
        to = _one_before(workspace, str(before))
    workspace.open(to, verify=True)
    workspace.roll_back(to, instead_of=before)
    log.info("%s is published instead of %s", to, before or "none")
    return before, to


def _one_before(workspace: Workspace, name: str) -> str:
    try:
        parent = workspace.manifest(name).config.get("parent")
    except (CorruptVersionError, FormatVersionError):
        parent = None
    order = workspace.versions()
    passed_over = workspace.rollbacks()
    older = [version for version in order[: order.index(name) if name in order else None] if version not in passed_over]
    if parent in older:
        return str(parent)
    # The oldest version may have become current again after newer ones, because its `run` was repeated.
    previous = workspace.pointer().before
    candidates = older or [version for version in order if version == previous and version not in passed_over]
    if not candidates:
        raise StoreError(f"workspace {workspace.uri} has no version before {name}; name one with --to")
    return candidates[-1]


def delete_old_versions(workspace: Workspace, keep: int, unpublished_days: float = 30) -> list[str]:
    """Delete old versions; the newest versions, the current one and its parent, and those that servers use stay.

    Args:
        workspace: the workspace, whose lock the caller holds.
        keep: how many of the newest published versions stay.
        unpublished_days: age in days up to which versions that were never published stay.

    Returns:
        The names of the deleted versions. If a version cannot be deleted, a warning is logged, and the version stays.
    """
    current, unpublished = workspace.current(), workspace.unpublished()
    protected = {current, *workspace.versions()[-keep:], *served_versions(workspace)}
    protected |= {name for name in unpublished if _age(workspace, name) < dt.timedelta(days=unpublished_days)}
    try:
        protected.add(str(workspace.manifest(current).config.get("parent")))
    except StoreError as error:
        log.warning("%s", error)
    removed = []
    for name in (*workspace.versions(), *unpublished):
        if name in protected:
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


def _age(workspace: Workspace, name: str) -> dt.timedelta:
    """How long ago a version was made; zero if its manifest cannot be read."""
    try:
        return dt.datetime.now(dt.UTC) - workspace.manifest(name).created_at
    except (CorruptVersionError, FormatVersionError):
        return dt.timedelta(0)


def diff(workspace: Workspace, first: str, second: str, config: Config) -> dict[str, Any]:
    """Return the changes between two versions in code, settings, counts, items, ads and neighbours.

    Args:
        workspace: the workspace of both versions.
        first: the name of the earlier version.
        second: the name of the later version.
        config: the full configuration.

    Raises:
        StoreError: one of the versions does not exist, or is damaged.
    """
    from jobs.nightly.drift import neighbour_overlap
    from retrieval.index_folder import read_index

    versions = [workspace.open(name, verify=True, parts=("index",)) for name in (first, second)]
    manifests = [version.manifest for version in versions]
    indexes = [read_index(version.path / "index") for version in versions]
    counts = [_flat(manifest.summary) for manifest in manifests]
    return {
        "versions": [first, second],
        "as_of": [manifest.as_of.isoformat() for manifest in manifests],
        "code_changed": manifests[0].code_version != manifests[1].code_version,
        "settings": changed_settings(*(manifest.config for manifest in manifests)),
        "counts": {
            key: [values.get(key) for values in counts]
            for key in _changed(*counts)
            if isinstance(counts[1].get(key, counts[0].get(key)), int)
        },
        "items": _set_changes(*(set(index.catalogue.item_ids) for index in indexes)),
        "ads": _set_changes(*(set() if index.ads is None else set(index.ads.ad_ids) for index in indexes)),
        "neighbours_that_stay": neighbour_overlap(
            versions[1].path / "index", versions[0].path / "index", config, config.nightly.probes
        ),
    }


def changed_settings(first: dict[str, Any], second: dict[str, Any]) -> dict[str, list[Any]]:
    """Return the settings in which two versions differ: dotted key → both values.

    Args:
        first: the `config` of the first version's manifest.
        second: the `config` of the second version's manifest.
    """
    settings = [_flat(first), _flat(second)]
    return {key: [values.get(key) for values in settings] for key in _changed(*settings)}


def _set_changes(first: set[str], second: set[str]) -> dict[str, int]:
    return {"new": len(second - first), "gone": len(first - second), "both": len(first & second)}


def _changed(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    return sorted(key for key in {*first, *second} if first.get(key) != second.get(key))


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Return nested dictionaries as one with dotted names; the days and the stages always differ, and are left out."""
    if not isinstance(value, dict):
        return {name: value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        if key not in ("days", "stages"):
            flat |= _flat(inner, f"{name}.{key}" if name else str(key))
    return flat
