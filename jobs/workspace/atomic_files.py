"""Local files that are either whole or missing: checksums, replacement in one step, detection of a full disk."""

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
    """Read the file, make sure that it is on disk, and return its size and SHA-256."""
    digest = sha256(path)
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
    return FileRecord(bytes=path.stat().st_size, sha256=digest)


def sha256(path: Path) -> str:
    """Return the SHA-256 of the content in hex; the file is read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def damage(path: Path, expected: FileRecord, verify: bool) -> str | None:
    """Compare a file with its record, and return the damage in words; None if there is none.

    Args:
        path: the file.
        expected: the recorded size and checksum of the file.
        verify: whether to read the content and compare its SHA-256 as well.
    """
    if not path.is_file():
        return f"{path} is missing, but the manifest lists it ({expected.bytes:,} bytes)"
    if path.stat().st_size != expected.bytes:
        return f"{path} has {path.stat().st_size:,} bytes, the manifest says {expected.bytes:,}"
    if verify and (actual := sha256(path)) != expected.sha256:
        return f"{path} has SHA-256 {actual}, the manifest says {expected.sha256}"
    return None


def check_output(path: Path, suffix: str = "", flag: str = "--output") -> None:
    """Check, before any work is done, whether the output file of a command can be written.

    Args:
        path: the file, as given on the command line.
        suffix: the ending that the file's name must have, e.g. `.parquet`.
        flag: the flag that names the file.

    Raises:
        OutputError: the name does not end in `suffix`, the path is a folder, or the folder of the file cannot be
            created or written to.
    """
    if path.is_dir():
        raise OutputError(f"{flag} {path} is a folder; give a file in it, e.g. {path / ('out' + suffix)}")
    if suffix and path.suffix != suffix:
        raise OutputError(f"{flag} {path}: the name must end in {suffix}, the format that is written")
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    if not folder.is_dir():
        raise OutputError(f"{flag} {path}: {folder} is a file, expected a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{flag} {path}: the folder {folder} cannot be written to; choose another")


def write_whole(path: Path, content: bytes) -> None:
    """Replace the file in one step: a reader sees the old content or the new, never a part of it.

    Args:
        path: the file.
        content: the new content of the file.
    """
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
    """Flush the folder itself, so that a rename inside it survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def link_or_copy(source: Path, target: Path) -> None:
    """Make a file available under a second path: a hard link on the same disk, else a copy.

    Args:
        source: an existing file that never changes.
        target: the new path; its folder is created.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


@contextlib.contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """If the disk runs full inside the block, raise an error that names the folder and says what to do.

    Raises:
        WorkspaceFullError: the disk ran full. Other errors pass through.
    """
    try:
        yield
    except Exception as error:
        if not is_disk_full(error):
            raise
        raise WorkspaceFullError(
            f"no space left while building in {folder}; its disk has {shutil.disk_usage(folder).free:,} bytes free "
            f"({error}). Nothing was published, and the current version stays. Free some space and run again"
        ) from error


def is_disk_full(error: BaseException | None) -> bool:
    """Return whether the error, or one that caused it, says that the disk or the quota is full."""
    # Spark and safetensors raise errors of their own, which keep only the text of the system's error.
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(error):
            return True
        error = error.__cause__ if error.__suppress_context__ else error.__context__
    return False
