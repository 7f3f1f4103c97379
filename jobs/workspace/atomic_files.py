"""Local files that are whole or not there: checksums, replacing in one step, telling a full disk."""

import contextlib
import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from jobs.errors import OutputError, WorkspaceFullError
from jobs.workspace.manifest import FileRecord


def flushed(path: Path) -> FileRecord:
    """Read the file, make sure that it is on the disk, and return its size and SHA-256."""
    digest = sha256(path)
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
    return FileRecord(bytes=path.stat().st_size, sha256=digest)


def sha256(path: Path) -> str:
    """Return the SHA-256 of the content, in hex, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def damage(path: Path, expected: FileRecord, verify: bool) -> str | None:
    """What is wrong with the file: not there, not of the recorded size or, with `verify`, not of that content."""
    if not path.is_file():
        return f"{path} is missing, but the manifest lists it ({expected.bytes:,} bytes)"
    if path.stat().st_size != expected.bytes:
        return f"{path} has {path.stat().st_size:,} bytes, the manifest says {expected.bytes:,}"
    if verify and (found := sha256(path)) != expected.sha256:
        return f"{path} has SHA-256 {found}, the manifest says {expected.sha256}"
    return None


def check_output(path: Path, suffix: str = "") -> None:
    """Find out before the work whether a file can be written there.

    Raises:
        OutputError: the path does not end in `suffix`, is a folder, or its folder cannot be made or written to.
    """
    if path.is_dir():
        raise OutputError(f"--output {path} is a folder; give a file in it, e.g. {path / ('out' + suffix)}")
    if suffix and path.suffix != suffix:
        raise OutputError(f"--output {path}: the name must end in {suffix}, as that is what is written")
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    if not folder.is_dir():
        raise OutputError(f"--output {path}: {folder} is a file, expected a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"--output {path}: the folder {folder} cannot be written to; choose another")


def write_whole(path: Path, content: bytes) -> None:
    """Replace the file in one step: whoever reads it sees the old content or the new, never a part."""
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with scratch.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    flush(path.parent)


def flush(folder: Path) -> None:
    """Make a rename inside the folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """Turn a full disk inside the block into an error that says where and what to do.

    Raises:
        WorkspaceFullError: it ran full; whatever else is raised is raised on.
    """
    try:
        yield
    except Exception as error:
        if not is_disk_full(error):
            raise
        raise WorkspaceFullError(
            f"no space left while building in {folder}, whose disk has {shutil.disk_usage(folder).free:,} bytes free "
            f"({error}). Nothing was published, the version before stays current. Free some space and run again"
        ) from error


def is_disk_full(error: BaseException | None) -> bool:
    """Whether the error, or one that it was raised from, says that the disk (or the quota) is full."""
    # Spark and safetensors wrap the system's error in their own, and keep only its words.
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(error):
            return True
        error = error.__cause__ if error.__suppress_context__ else error.__context__
    return False
