"""Checkpoints: the outputs of finished stages, kept on disk so that a stopped build can continue after these stages.

A stage is a step of a build. It writes into a scratch folder. Once all files are on disk, and `stage.json` records the
inputs and the outputs, the scratch folder is renamed to the stage's own folder. If the process is killed before that, a
later run builds the stage again.
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
from jobs.workspace.atomic_files import damage, flush, flushed, full_disk, link_or_copy, write_whole
from jobs.workspace.manifest import FileRecord

log = logging.getLogger(__name__)

STAMP = "stage.json"


class Stamp(BaseModel):
    """The content of `stage.json`.

    Args:
        inputs: name → fingerprint of each input of the stage.
        files: path below the stage's folder → size and checksum of each output.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: dict[str, str]
    files: dict[str, FileRecord]


@dataclass(frozen=True)
class StageResult:
    """A finished stage.

    Args:
        folder: the folder with the stage's outputs and `stage.json`.
        fingerprint: the hash of the stage's inputs. Later stages that read its outputs have this hash as an input.
        reused: whether an earlier run had finished the stage.
    """

    folder: Path
    fingerprint: str
    reused: bool

    def link_into(self, target: Path) -> None:
        """Hard-link the outputs into another folder, without `stage.json`; copy them where linking is impossible."""
        for path in sorted(self.folder.rglob("*")):
            if path.is_file() and path.name != STAMP:
                link_or_copy(path, target / path.relative_to(self.folder))


class Checkpoints:
    """The stages of one build, each in a folder of its own below `folder`. Only one process may use them at a time.

    Args:
        folder: the folder of the stages.
        progress: shows and times the stages.
        check: called before a stage is built, and before it gets its final name; raises an error if another process
            uses the folder.
    """

    def __init__(self, folder: Path, progress: StageProgress, check: Callable[[], None] = lambda: None) -> None:
        self.folder = folder
        self.progress = progress
        self._check = check
        self.reused: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)
        for scratch in folder.glob(".*.part"):
            log.warning("removing what an interrupted run left behind: %s", scratch)
            shutil.rmtree(scratch, ignore_errors=True)

    def run(
        self,
        name: str,
        inputs: Mapping[str, Any],
        build: Callable[[Path, ProgressCallback], None],
        *,
        label: str | None = None,
    ) -> StageResult:
        """Return the finished stage.

        The stage on disk is reused if its inputs are the same and its files are undamaged. Otherwise it is built.

        Args:
            name: the name of the stage and its folder.
            inputs: everything on which the outputs depend, as JSON, with the fingerprints of earlier stages.
            build: writes the outputs into the folder that it gets as its first argument.
            label: the name that the progress shows and records; by default `name`.

        Raises:
            WorkspaceFullError: the disk ran full. Errors of `build` pass through. After any error, the stage is
                unfinished.
        """
        fingerprints = {key: _fingerprint(value) for key, value in inputs.items()}
        target = self.folder / name
        reason = _reason_to_build(target, fingerprints)
        if reason is None:
            log.info("%s: finished by an earlier run with the same inputs, reused", name)
            self.reused.append(name)
            return StageResult(target, _fingerprint(fingerprints), reused=True)
        if target.exists():
            log.info("%s: built again, because %s", name, reason)
        scratch = self.folder / f".{name}-{uuid.uuid4().hex[:8]}.part"
        try:
            self._check()
            with self.progress.stage(label or name) as report, full_disk(self.folder):
                scratch.mkdir()
                build(scratch, report)
                paths = sorted(path for path in scratch.rglob("*") if path.is_file())
                files = {path.relative_to(scratch).as_posix(): flushed(path) for path in paths}
                stamp = Stamp(inputs=fingerprints, files=files)
                write_whole(scratch / STAMP, stamp.model_dump_json(indent=1).encode())
                self._check()
                shutil.rmtree(target, ignore_errors=True)
                scratch.replace(target)
                flush(self.folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return StageResult(target, _fingerprint(fingerprints), reused=False)

    def remove(self) -> None:
        """Delete all stages, once their outputs are part of a version or no longer needed."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _reason_to_build(target: Path, fingerprints: dict[str, str]) -> str | None:
    """Return why the stage in the folder `target` cannot be reused; None if it can be reused."""
    try:
        stamp = Stamp.model_validate_json((target / STAMP).read_bytes())
    except (OSError, ValidationError):
        return "it is missing or incomplete"
    names = {*fingerprints, *stamp.inputs}
    if changed := sorted(name for name in names if fingerprints.get(name) != stamp.inputs.get(name)):
        return f"{', '.join(changed)} changed"
    damages = (damage(target / file, record, verify=True) for file, record in stamp.files.items())
    return next((text for text in damages if text), None)


def _fingerprint(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
