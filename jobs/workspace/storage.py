"""The files below the root of a workspace, on disk or in an object store.

Names of files are never read as patterns. Errors of an object store become errors of one line. From `jobs`, this module
imports only `atomic_files`, `store_errors` and the modules that lie directly in `jobs`.
"""

import contextlib
import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from jobs.workspace.atomic_files import flush, write_whole
from jobs.workspace.store_errors import code_of, file_system, store_errors

# Stores without folders. To create a folder there might create a bucket.
_WITHOUT_FOLDERS = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "memory"}
# The codes with which S3 refuses a write whose condition does not hold.
_CONDITION_FAILED = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}


@dataclass(frozen=True)
class StoredFile:
    """The size of a file in bytes, and the time of its last write by the store's clock; None if that is unknown."""

    bytes: int
    modified: datetime | None


class Storage:
    """The files of one workspace. Names are paths below its root, with `/` between their parts."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        if re.match(r"[a-z][a-z0-9+.-]*:", uri):
            # No cached listings: other hosts publish too.
            self.fs, root = file_system(uri, "workspace", use_listings_cache=False)
        else:
            self.fs = LocalFileSystem()
            root = self.fs._strip_protocol(uri)
        self.root: str = root.rstrip("/")
        protocols = {self.fs.protocol} if isinstance(self.fs.protocol, str) else set(self.fs.protocol)
        self.is_local = "file" in protocols
        self._is_s3 = "s3" in protocols
        self._has_folders = not protocols & _WITHOUT_FOLDERS

    def path(self, *parts: str) -> str:
        """Return the path of a name in the file system."""
        return "/".join((self.root, *parts))

    def errors(self) -> contextlib.AbstractContextManager[None]:
        """Return a context that turns errors of an object store into errors of one line, and keeps errors of a disk."""
        return contextlib.nullcontext() if self.is_local else store_errors(f"workspace {self.uri}")

    # Reading

    def read(self, name: str) -> bytes:
        """Return the content of a small file.

        Raises:
            FileNotFoundError: the file does not exist.
        """
        with self.errors():
            try:
                return bytes(self.fs.cat_file(self.path(name)))
            except NotADirectoryError as error:
                if Path(self.root).is_file():  # the workspace itself
                    raise
                raise FileNotFoundError(str(error)) from error

    def read_if_exists(self, name: str) -> bytes | None:
        """Return the content of a small file; None if there is none."""
        try:
            return self.read(name)
        except FileNotFoundError:
            return None

    def exists(self, name: str) -> bool:
        """Return whether there is a file of this name."""
        with self.errors():
            return bool(self.fs.isfile(self.path(name)))

    def names(self, folder: str) -> list[str]:
        """Return the names of the files and folders in a folder, sorted; an empty list if the folder does not exist."""
        path = self.path(folder)
        with self.errors():
            try:
                if self.is_local:
                    return sorted(os.listdir(path))
                entries = self.fs.ls(path, detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return []
        names = {entry.rstrip("/").removeprefix(f"{path.lstrip('/')}/").removeprefix(f"{path}/") for entry in entries}
        return sorted(name for name in names if name and "/" not in name)

    def tree(self, folder: str) -> dict[str, StoredFile]:
        """Return path below a folder → file, for every file below the folder."""
        path = self.path(folder)
        if self.is_local:
            files = {str(file.relative_to(path)): file.stat() for file in Path(path).rglob("*") if file.is_file()}
            return {
                name: StoredFile(stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC))
                for name, stat in files.items()
            }
        with self.errors():
            try:
                entries: dict[str, Any] = self.fs.find(path, detail=True)
            except FileNotFoundError:
                return {}
        return {
            name.removeprefix("/").removeprefix(path.lstrip("/")).lstrip("/"): _described(entry)
            for name, entry in entries.items()
        }

    # Writing

    def write(self, name: str, content: bytes) -> None:
        """Write a small file in one step; its folder is created."""
        path = self.path(name)
        with self.errors():
            self._make_folder_of(path)
            if self.is_local:
                write_whole(Path(path), content)
            else:
                self.fs.pipe_file(path, content)

    def create(self, name: str, content: bytes) -> bool:
        """Write a small file that does not exist yet, whole or not at all; return False if it exists."""
        path = self.path(name)
        self._make_folder_of(path)
        with self.errors():
            try:
                if self.is_local:
                    _create_local(Path(path), content)
                else:
                    self.fs.pipe_file(path, content, mode="create")
            except FileExistsError:
                return False
            except OSError as error:
                if code_of(error) in _CONDITION_FAILED:
                    return False
                raise
        return True

    def replace(self, name: str, content: bytes, expected: bytes) -> bool:
        """Replace the content of a small file if it still is `expected`; return whether the file was written.

        On a disk and in S3, no other write can come between the comparison and this write. Other stores do not
        guarantee that.
        """
        path = self.path(name)
        with self.errors():
            try:
                with self.alone():
                    tag = self.fs.info(path).get("ETag") if self._is_s3 else None
                    if self.fs.cat_file(path) != expected:
                        return False
                    if self.is_local:
                        write_whole(Path(path), content)
                    else:
                        self.fs.pipe_file(path, content, **({"IfMatch": tag} if tag else {}))
            except FileNotFoundError:
                return False
            except OSError as error:
                if code_of(error) in _CONDITION_FAILED:
                    return False
                raise
        return True

    def delete(self, name: str) -> None:
        """Delete a file, if it exists."""
        with self.errors(), contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(self.path(name))

    def delete_tree(self, folder: str) -> None:
        """Delete a folder and everything in it."""
        if self.is_local:
            shutil.rmtree(self.path(folder))
            return
        for file in self.tree(folder):
            self.delete(f"{folder}/{file}")
        if self._has_folders:
            with self.errors(), contextlib.suppress(FileNotFoundError):
                self.fs.rmdir(self.path(folder))

    def upload(self, files: Sequence[Path], names: Sequence[str]) -> None:
        """Copy local files to a remote workspace."""
        with self.errors():
            for name in names if self._has_folders else ():
                self._make_folder_of(self.path(name))
            self.fs.put([str(file) for file in files], [self.path(name) for name in names])

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Let one caller of this host at a time into the block, but all of them if the workspace is remote.

        Must not be nested.
        """
        if not self.is_local:
            yield
            return
        folder = os.open(self.root or "/", os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _make_folder_of(self, path: str) -> None:
        if self._has_folders:
            with self.errors():
                self.fs.makedirs(path.rpartition("/")[0], exist_ok=True)


def _create_local(path: Path, content: bytes) -> None:
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    write_whole(scratch, content)
    try:
        os.link(scratch, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        with path.open("xb") as stream:
            stream.write(content)
    finally:
        scratch.unlink(missing_ok=True)
    flush(path.parent)


def _described(entry: dict[str, Any]) -> StoredFile:
    modified = entry.get("LastModified") or entry.get("mtime") or entry.get("created")
    if isinstance(modified, int | float):
        modified = datetime.fromtimestamp(modified, UTC)
    if not isinstance(modified, datetime):
        modified = None
    elif modified.tzinfo is None:
        modified = modified.replace(tzinfo=UTC)
    return StoredFile(int(entry.get("size") or 0), modified)
