"""The manifest of a version, and the fingerprint by which a version that is already built is recognised.

The workspace writes a `Manifest` as the last file of a version. Before the pipeline builds a version, it looks for a
manifest with the same `fingerprint`.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from jobs.errors import InputNotFoundError, StoreError
from jobs.packages import ROOMS
from jobs.workspace.store_errors import errors_of, file_system

FORMAT_VERSION = 1
UNPUBLISHED = 0
"""The value of `Manifest.publication` for a version that was never published."""
# A path of this kind names a table of Spark.
_SPARK_TABLE = "table:"
_PATTERN = {*"*?["}


class FileRecord(BaseModel):
    """Size (bytes) and SHA-256 (hex) of one file of a version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bytes: int
    sha256: str


class InputFile(BaseModel):
    """One input file.

    Args:
        path: the path from which the file was read.
        name: the path below the input folder; empty if the input is a single file. In a folder, names may have a
            meaning (`date=2026-03-01/`); the name of a single file has no meaning.
        bytes: the size of the file.
        checksum: the checksum of its content.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    name: str
    bytes: int
    checksum: str


class Manifest(BaseModel):
    """The content of `manifest.json`, which describes a version.

    Args:
        as_of: the time of the last valid event that was used.
        files: relative path → size and checksum; the workspace fills this in when it stores the version.
        publication: the version's place in the order of publication, from 1, or UNPUBLISHED. The workspace fills this
            in when it stores the version, and changes UNPUBLISHED when it publishes the version later. None in
            manifests of older releases.
    """

    # A later release may add fields; `format_version` changes if one changes its meaning.
    model_config = ConfigDict(frozen=True, extra="ignore")

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
    publication: int | None = None


def version_name(as_of: datetime, fingerprint: str) -> str:
    """Return `<as-of time, UTC>-<first 8 hex digits of the fingerprint>`, e.g. `20140928T235959-1f0c2a9b`.

    Args:
        as_of: the version's as-of time, with a time zone.
        fingerprint: the hash of its inputs, configuration and code.

    Raises:
        ValueError: the time has no time zone.
    """
    if as_of.tzinfo is None:
        raise ValueError(f"as_of has no time zone (got {as_of.isoformat()}), expected one; use UTC")
    return f"{as_of.astimezone(UTC):%Y%m%dT%H%M%S}-{fingerprint[:8]}"


def describe_inputs(inputs: Mapping[str, Sequence[str]]) -> dict[str, tuple[InputFile, ...]]:
    """Return role (events, items, ads) → all files at the given paths or URIs, each with a checksum.

    A path that does not exist may be a pattern. The files of a folder are sorted by path. Names that begin with `.` or
    `_` are skipped, as in Spark, except `_key=value` and the log of a Delta table. The checksum of a local file covers
    its content. For an object in a store, it covers the facts that the store reports (size, ETag, time). A table of
    Spark always counts as changed.

    Raises:
        InputNotFoundError: a path does not exist, or is a folder without files.
    """
    return {role: tuple(file for path in paths for file in _files_below(role, path)) for role, paths in inputs.items()}


def fingerprint(inputs: Mapping[str, Sequence[InputFile]], config: Mapping[str, Any], code: str) -> str:
    """Return a hash (32 hex digits) of the contents of the inputs, the configuration and the code.

    Args:
        inputs: result of `describe_inputs`. The order of the files of a role matters; the order of the roles does not.
        config: JSON-like; the order of its keys does not matter.
        code: result of `code_version`.
    """
    contents = {role: [(file.name, file.bytes, file.checksum) for file in files] for role, files in inputs.items()}
    text = json.dumps({"inputs": contents, "config": config, "code": code}, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def build_key(manifest: Manifest) -> str:
    """Return a hash of everything from which a version was built, except the version that its night followed.

    Args:
        manifest: the manifest of the version, or of one that is about to be built.
    """
    settings = {key: value for key, value in manifest.config.items() if key != "parent"}
    return fingerprint(manifest.inputs, settings, manifest.code_version)


def code_version(folders: Mapping[str, Path] | None = None) -> str:
    """Return a hash (16 hex digits) of every file of our four packages, so that changed code makes a new version.

    Templates, pages, styles and other data files count as code. Compiled files (`__pycache__`) do not.

    Args:
        folders: package → its folder; by default the folders where the packages are installed.

    Raises:
        StoreError: a package's folder is missing or holds no files.
    """
    digest = hashlib.blake2b(digest_size=8)
    for room, folder in sorted((folders or _room_folders()).items()):
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and _is_source(path)]
        if not files:
            raise StoreError(
                f"the code of {room} was expected in {folder}, which has no files: install LightSAGE again"
            )
        for path in files:
            content = path.read_bytes()
            name = f"{room}/{path.relative_to(folder).as_posix()}"
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _room_folders() -> dict[str, Path]:
    """Package → the folder where it is installed, found without importing it."""
    folders = {}
    for room in ROOMS:
        spec = find_spec(room)
        if spec is None or not spec.submodule_search_locations:
            raise StoreError(
                f"the package {room} is not installed: versions are recognised by the code of all four packages"
            )
        folders[room] = Path(next(iter(spec.submodule_search_locations)))
    return folders


def _is_source(path: Path) -> bool:
    return "__pycache__" not in path.parts and path.suffix != ".pyc"


def _files_below(role: str, uri: str) -> list[InputFile]:
    if uri.startswith(_SPARK_TABLE):  # a change cannot be seen without Spark, so the table counts as changed
        return [InputFile(path=uri, name=uri, bytes=0, checksum=f"read:{datetime.now(UTC).isoformat()}")]
    fs, root = file_system(uri, f"{role}:")
    with errors_of(fs, f"{role}: {uri}"):
        return _described_files(fs, root, role, uri)


def _described_files(fs: Any, root: str, role: str, uri: str) -> list[InputFile]:
    if not fs.exists(root):
        matches = sorted(fs.glob(root)) if _PATTERN & {*uri} else []
        if matches := [match for match in matches if not _is_hidden(match.rpartition("/")[2])]:
            base = root[: min(root.find(sign) for sign in _PATTERN & {*root})].rpartition("/")[0]
            below = [file for match in matches for file in _described_files(fs, match, role, uri)]
            files = {file.path: file for file in below}.values()  # a folder and a file in it may both match
            return [file.model_copy(update={"name": file.path.removeprefix(f"{base}/")}) for file in files]
        raise InputNotFoundError(f"{role}: {uri} does not exist; give a file, a folder, or a pattern that matches some")
    if fs.isfile(root):
        return [_input_file(fs, root, "")]
    paths = _local_files(Path(root)) if "file" in fs.protocol else fs.find(root)
    names = {path: path.removeprefix(root.rstrip("/") + "/") for path in paths}
    visible = sorted(path for path, name in names.items() if _is_input(name))
    if not visible:
        raise InputNotFoundError(f"{role}: the folder {uri} holds no files; expected files of the table")
    return [_input_file(fs, path, names[path]) for path in visible]


def _is_input(name: str) -> bool:
    """Return whether a file counts as input; the log of a Delta table does, because it names the files to read."""
    return name.startswith("_delta_log/") or not any(map(_is_hidden, name.split("/")))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def _local_files(folder: Path) -> Iterator[str]:
    """Yield all files below the folder, as the graph build reads them; only links to folders above are not followed."""
    for where, folders, names in os.walk(folder, followlinks=True):
        above = [Path(where).resolve(), *Path(where).resolve().parents]
        folders[:] = [name for name in folders if (Path(where) / name).resolve() not in above]
        yield from (str(Path(where) / name) for name in names if (Path(where) / name).is_file())


def _input_file(fs: Any, path: str, name: str) -> InputFile:
    if "file" not in fs.protocol:
        return InputFile(path=path, name=name, bytes=fs.size(path), checksum=f"stat:{fs.checksum(path)}")
    with open(path, "rb") as stream:
        digest = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16))
        return InputFile(path=path, name=name, bytes=stream.tell(), checksum=f"blake2b:{digest.hexdigest()}")
