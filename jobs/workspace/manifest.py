"""What a published version says about itself, and the fingerprint by which the same work is recognised.

The store writes a `Manifest` as the last file of a version; `jobs.pipeline.build` asks for the `fingerprint` before it
starts.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs
from pydantic import BaseModel, ConfigDict, Field

from jobs.errors import InputNotFoundError

FORMAT_VERSION = 1
ROOMS = ("graph_build", "model", "retrieval", "jobs")


class FileRecord(BaseModel):
    """Size (bytes) and SHA-256 (hex) of one file of a version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bytes: int
    sha256: str


class InputFile(BaseModel):
    """One file that went in: where it was, its size (bytes) and a checksum of its content.

    `name` is the path below the folder that was given, empty when the file itself was: a folder's names carry
    meaning (`date=2026-03-01/`), a single file's does not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    name: str
    bytes: int
    checksum: str


class Manifest(BaseModel):
    """A version's record of itself: `manifest.json`.

    `as_of` is the time of the last valid event used; `files` (relative path to size and checksum) is filled
    in by the store when it publishes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int = FORMAT_VERSION
    version: str
    fingerprint: str
    created_at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    as_of: datetime
    config: dict[str, Any]
    inputs: dict[str, tuple[InputFile, ...]]
    code_version: str
    files: dict[str, FileRecord] = Field(default_factory=dict)
    metrics: dict[str, Any] = Field(default_factory=dict)
    summary: dict[str, Any] = Field(default_factory=dict)


def version_name(as_of: datetime, fingerprint: str) -> str:
    """Return `<as-of time, UTC>-<first 8 hex digits of the fingerprint>`, e.g. `20140928T235959-1f0c2a9b`."""
    if as_of.tzinfo is None:
        raise ValueError(f"as_of must carry a time zone (got {as_of.isoformat()}); the project's times are UTC")
    return f"{as_of.astimezone(UTC):%Y%m%dT%H%M%S}-{fingerprint[:8]}"


def describe_inputs(inputs: Mapping[str, Sequence[str]]) -> dict[str, tuple[InputFile, ...]]:
    """Return every file behind the given paths or URIs, by role (events, items, ads), with a checksum each.

    Folders are walked in name order; like Spark, names that begin with `.` or `_` are left out. Local files
    are checksummed by content; elsewhere by what the file system tells about the object (size, ETag, time).

    Raises:
        InputNotFoundError: A path does not exist or is a folder without files.
    """
    return {role: tuple(file for path in paths for file in _files_below(role, path)) for role, paths in inputs.items()}


def fingerprint(inputs: Mapping[str, Sequence[InputFile]], config: Mapping[str, Any], code: str) -> str:
    """Return 32 hex digits that are equal exactly when input contents, configuration and code are.

    Args:
        inputs: What `describe_inputs` returned. Order within a role counts, the order of the roles does not.
        config: JSON-like; the order of its keys does not count.
        code: What `code_version` returned.
    """
    contents = {role: [(file.name, file.bytes, file.checksum) for file in files] for role, files in inputs.items()}
    text = json.dumps({"inputs": contents, "config": config, "code": code}, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def code_version(root: Path | None = None) -> str:
    """Return 16 hex digits over the four rooms' Python sources: changed code makes a new version."""
    root = root or Path(__file__).resolve().parents[2]
    digest = hashlib.blake2b(digest_size=8)
    for room in ROOMS:
        for source in sorted((root / room).rglob("*.py")):
            content = source.read_bytes()
            digest.update(f"{source.relative_to(root).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _files_below(role: str, uri: str) -> list[InputFile]:
    fs, root = url_to_fs(uri)
    if not fs.exists(root):
        raise InputNotFoundError(f"{role}: {uri} does not exist; give a parquet or CSV file, or a folder of them")
    if fs.isfile(root):
        return [_input_file(fs, root, "")]
    every = _local_files(Path(root)) if "file" in fs.protocol else fs.find(root)
    names = {path: path.removeprefix(root.rstrip("/") + "/") for path in every}
    kept = sorted(path for path, name in names.items() if not any(part[0] in "._" for part in name.split("/")))
    if not kept:
        raise InputNotFoundError(f"{role}: the folder {uri} holds no file; expected parquet or CSV files")
    return [_input_file(fs, path, names[path]) for path in kept]


def _local_files(folder: Path) -> Iterator[str]:
    """Those of linked folders too, but for links back to a folder above: what the graph build reads."""
    for where, folders, names in os.walk(folder, followlinks=True):
        above = [Path(where).resolve(), *Path(where).resolve().parents]
        folders[:] = [name for name in folders if (Path(where) / name).resolve() not in above]
        yield from (str(Path(where) / name) for name in names)


def _input_file(fs: Any, path: str, name: str) -> InputFile:
    if "file" not in fs.protocol:
        return InputFile(path=path, name=name, bytes=fs.size(path), checksum=f"stat:{fs.checksum(path)}")
    with open(path, "rb") as stream:
        digest = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16))
        return InputFile(path=path, name=name, bytes=stream.tell(), checksum=f"blake2b:{digest.hexdigest()}")
