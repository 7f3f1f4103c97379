"""Deletes the leftovers of dead runs: scratch folders, half-written files and half-uploaded versions."""

import contextlib
import datetime as dt
import logging
import re
import shutil
import time
from pathlib import Path

from jobs.errors import StoreError
from jobs.workspace.storage import Storage

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
# A leftover belongs to a run that is gone if it has not changed for longer than this and no file mentions it.
OLD = dt.timedelta(days=1)
# A lease that was not renewed for longer than this is deleted. Servers renew their leases every hour.
FORGOTTEN = dt.timedelta(days=7)
_SCRATCH = re.compile(r"\..+\.[0-9a-f]{8}")  # see `atomic_files.write_whole`


def sweep(storage: Storage, work: Path, copies: Path | None) -> None:
    """Delete leftovers; the caller holds the lock of the workspace.

    Args:
        storage: the files of the workspace.
        work: the folder of scratch folders. Only the holder of the lock creates any, so those in it are leftovers.
        copies: the folder of local copies of a remote workspace's versions; None for a local workspace.
    """
    for leftover in sorted(work.iterdir()) if work.is_dir() else ():
        log.warning("removing what an interrupted run left behind: %s", leftover)
        shutil.rmtree(leftover)
    try:
        _sweep_unfinished_versions(storage)
    except (OSError, StoreError) as error:  # a later run tries again
        log.warning("unfinished versions could not be deleted: %s", error)
    if storage.is_local:
        root = Path(storage.root)
        folders = [root, root / "serving", *(root / "nights" / name for name in storage.names("nights"))]
        scratch = [path for folder in folders for path in _children(folder) if _SCRATCH.fullmatch(path.name)]
    else:
        scratch = [path for path in _children(copies) if path.name.startswith(".")]
    _sweep_leases(storage)
    for path in scratch:
        if time.time() - path.lstat().st_mtime > OLD.total_seconds():
            log.warning("removing what an interrupted run left behind: %s", path)
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _sweep_unfinished_versions(storage: Storage) -> None:
    """Delete half-uploaded and half-deleted versions: old folders without a manifest, mentioned in no file."""
    now = dt.datetime.now(dt.UTC)
    for name in storage.names("versions"):
        folder = f"versions/{name}"
        if storage.exists(f"{folder}/{MANIFEST}") or (storage.is_local and not Path(storage.path(folder)).is_dir()):
            continue
        times = [file.modified for file in storage.tree(folder).values()]
        if storage.is_local:  # the folder may be empty
            times.append(dt.datetime.fromtimestamp(Path(storage.path(folder)).stat().st_mtime, dt.UTC))
        if any(time is None or now - time <= OLD for time in times) or _is_named(storage, name):
            continue
        log.warning("removing version %s, which was never completed, or never wholly deleted", name)
        storage.delete_tree(folder)


def _sweep_leases(storage: Storage) -> None:
    """Delete leases that were not renewed for a long time."""
    now = dt.datetime.now(dt.UTC)
    for name, file in storage.tree("serving").items():
        if name.endswith(".json") and file.modified and now - file.modified > FORGOTTEN:
            with contextlib.suppress(OSError, StoreError):
                storage.delete(f"serving/{name}")


def _is_named(storage: Storage, version: str) -> bool:
    """Whether the text of `current` or of a server's lease contains the version's name, even if the file is damaged."""
    files = ["current", *(f"serving/{name}" for name in storage.names("serving"))]
    return any(version.encode() in (storage.read_if_exists(file) or b"") for file in files)


def _children(folder: Path | None) -> list[Path]:
    return sorted(folder.iterdir()) if folder is not None and folder.is_dir() else []
