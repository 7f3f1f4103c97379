"""Local copies of the versions of a remote workspace: the files that are needed, downloaded once. For `workspace`."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs.workspace.atomic_files import damage
from jobs.workspace.manifest import FileRecord

# Versions that stay: the one that is served, the one that is loaded beside it, and one more.
KEPT = 3


def cache_of(uri: str) -> Path:
    """The folder of this host where what belongs to a workspace elsewhere is kept."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lightsage"
    return cache / hashlib.sha256(uri.encode()).hexdigest()[:16]


def fetch(fs: Any, remote: str, folder: Path, needed: Mapping[str, FileRecord]) -> None:
    """Download what a local folder of a version lacks of it; the folders that were used longest ago are removed.

    Args:
        remote: the version's path in `fs`; folder: where its copy lies, beside those of other versions.
        needed: the files, as the manifest records them. One that is not there remotely is not there locally then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if missing := [file for file, expected in needed.items() if damage(folder / file, expected, verify=False)]:
        there = {path.removeprefix(f"{remote}/") for path in fs.find(f"{remote}/")}
        files = [file for file in missing if file in there]
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as scratch:
            if files:
                fs.get([f"{remote}/{file}" for file in files], [f"{scratch}/{file}" for file in files])
            for file in files:
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                (Path(scratch) / file).replace(folder / file)
    os.utime(folder)
    copies = [path for path in folder.parent.iterdir() if not path.name.startswith(".")]
    for old in sorted(copies, key=lambda path: path.stat().st_mtime)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
