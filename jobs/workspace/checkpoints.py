"""Stages whose outputs are kept: one that was done with the same inputs is not done again.

A stage builds in a scratch folder that becomes its folder in one step, when all of it is on the disk and `stage.json`
says what went in and what came out. Whatever kills a run, its finished stages are there for the next.
"""

import hashlib
import json
import logging
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from jobs.progress import ProgressCallback, StageProgress
from jobs.workspace.atomic_files import damage, flush, flushed, full_disk, write_whole
from jobs.workspace.manifest import FileRecord

log = logging.getLogger(__name__)

STAMP = "stage.json"


class Stamp(BaseModel):
    """What a stage was made from, and the size and checksum of each of its files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: dict[str, str]
    files: dict[str, FileRecord]


@dataclass(frozen=True)
class Done:
    """A finished stage: its folder, a mark that later stages name as their input, and whether it was there already."""

    folder: Path
    mark: str
    reused: bool


class Stages:
    """The stages of one job below one folder, each in a folder of its own name. One process at a time."""

    def __init__(self, folder: Path, progress: StageProgress) -> None:
        self.folder = folder
        self.progress = progress
        self.reused: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".*.part"):
            log.warning("removing what a dead run left behind: %s", left)
            shutil.rmtree(left, ignore_errors=True)

    def run(self, name: str, inputs: Mapping[str, Any], build: Callable[[Path, ProgressCallback], None]) -> Done:
        """The finished stage: as it is there, or built now.

        Args:
            inputs: everything that the outputs depend on, as JSON; the marks of earlier stages among them.
            build: writes the outputs into the folder that it is given.

        Raises:
            WorkspaceFullError: the disk ran full. What `build` raises is raised on; the stage is then not there.
        """
        wanted = {key: _mark(value) for key, value in inputs.items()}
        target = self.folder / name
        changed = self._changed(target, wanted)
        if not changed:
            log.info("%s: nothing changed, not done again", name)
            self.reused.append(name)
            return Done(target, _mark(wanted), True)
        if target.exists():
            log.info("%s: done again, as %s", name, changed)
        scratch = self.folder / f".{name}-{uuid.uuid4().hex[:8]}.part"
        try:
            with self.progress.stage(name) as report, full_disk(self.folder):
                scratch.mkdir()
                build(scratch, report)
                paths = sorted(path for path in scratch.rglob("*") if path.is_file())
                files = {path.relative_to(scratch).as_posix(): flushed(path) for path in paths}
                write_whole(scratch / STAMP, Stamp(inputs=wanted, files=files).model_dump_json(indent=1).encode())
                shutil.rmtree(target, ignore_errors=True)
                scratch.replace(target)
                flush(self.folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return Done(target, _mark(wanted), False)

    def _changed(self, target: Path, wanted: dict[str, str]) -> str | None:
        """Why the stage must be done, None if it need not."""
        try:
            stamp = Stamp.model_validate_json((target / STAMP).read_bytes())
        except (OSError, ValidationError):
            return "it is not there, or not whole"
        if differing := sorted(key for key in {*wanted, *stamp.inputs} if wanted.get(key) != stamp.inputs.get(key)):
            return f"{', '.join(differing)} changed"
        return next(
            (bad for file, was in stamp.files.items() if (bad := damage(target / file, was, verify=True))), None
        )


def _mark(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
