"""Local copies of versions in a remote workspace, so that each needed file is downloaded once."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs.workspace.atomic_files import damage
from jobs.workspace.manifest import FileRecord

# Number of versions whose copies stay: the version that is served, the version that is loaded next, and one more.
COPIES = 3


def cache_of(uri: str) -> Path:
    """Return this host's folder for local copies and work in progress of the remote workspace at `uri`."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lightsage"
    return cache / hashlib.sha256(uri.encode()).hexdigest()[:16]


def fetch(fs: Any, remote: str, folder: Path, needed: Mapping[str, FileRecord]) -> None:
    """Download the files that a local copy of a version lacks, and delete the least recently used copies.

    Args:
        fs: the file system of the workspace.
        remote: path of the version in `fs`.
        folder: the folder of the local copy, beside the copies of other versions.
        needed: path below the version → size and checksum. A file that the remote version lacks is not downloaded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if missing := [file for file, expected in needed.items() if damage(folder / file, expected, verify=False)]:
        stored = {path.removeprefix(f"{remote}/") for path in fs.find(f"{remote}/")}
        files = [file for file in missing if file in stored]
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as scratch:
            if files:
                fs.get([f"{remote}/{file}" for file in files], [f"{scratch}/{file}" for file in files])
            for file in files:
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                (Path(scratch) / file).replace(folder / file)
    os.utime(folder)
    copies = [path for path in folder.parent.iterdir() if not path.name.startswith(".")]
    for old in sorted(copies, key=lambda path: path.stat().st_mtime)[:-COPIES]:
        shutil.rmtree(old, ignore_errors=True)
