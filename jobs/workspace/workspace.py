"""Where things are: the workspace, its versions, the lock and `current`. Only this file knows these paths.

A run builds a version in a scratch folder (`stage`) and publishes it: checksums, then the manifest, then the
folder under its name, then `current`. Whatever happens before that last step, the version before stays the
one that is served. The store knows no room: each room reads and writes its own folder inside a version.
"""

import contextlib
import json
import logging
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fsspec.core import url_to_fs
from pydantic import ValidationError

from jobs.errors import (
    CorruptVersionError,
    FormatVersionError,
    InputNotFoundError,
    NoVersionError,
    StoreError,
    WorkspaceBusyError,
    WorkspaceFullError,
)
from jobs.workspace import lock
from jobs.workspace.atomic_files import damage, flush, flushed, full_disk, write_whole
from jobs.workspace.manifest import (
    FORMAT_VERSION,
    FileRecord,
    InputFile,
    Manifest,
    code_version,
    describe_inputs,
    fingerprint,
    version_name,
)
from jobs.workspace.remote_cache import cache_of, fetch

__all__ = [
    "CorruptVersionError",
    "FileRecord",
    "FormatVersionError",
    "InputFile",
    "InputNotFoundError",
    "Manifest",
    "NoVersionError",
    "StoreError",
    "Version",
    "Workspace",
    "WorkspaceBusyError",
    "WorkspaceFullError",
    "code_version",
    "describe_inputs",
    "fingerprint",
    "version_name",
]

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Version:
    """A published version: a local folder that never changes, and its manifest."""

    path: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        return self.manifest.version


class Workspace:
    """A folder, or a URI that fsspec knows, of versions.

    Readers need no lock: a version never changes, and `current` is replaced whole. Writers work in `lock`.
    """

    def __init__(self, uri: str | Path) -> None:
        self.uri = str(uri)
        try:
            # Listings change under us: other hosts publish.
            self._fs, root = url_to_fs(self.uri, use_listings_cache=False)
        except (ValueError, ImportError) as error:  # an unknown scheme, or one whose package is not installed
            raise StoreError(f"workspace {self.uri} cannot be used: {error}") from error
        self._root: str = root.rstrip("/")
        self._is_local = "file" in self._fs.protocol
        self._owner: lock.Owner | None = None

    # Readers

    def current(self) -> str:
        """Return the name of the published version.

        Raises:
            NoVersionError: Nothing has been published yet.
            CorruptVersionError: `current` is not what a publish wrote.
        """
        path = self._path("current")
        try:
            version = json.loads(self._fs.cat_file(path))["version"]
        except FileNotFoundError:
            raise NoVersionError(f"workspace {self.uri} has no published version: run `lightsage run` first") from None
        except (ValueError, KeyError, TypeError):
            version = None
        if not isinstance(version, str):
            raise CorruptVersionError(
                f'{path} is not {{"version": "<name>"}}',
                "Run `lightsage run` again, which publishes what is there already, or write it by hand",
            )
        return version

    def versions(self) -> list[str]:
        """Return the names of the complete versions, sorted, so by as-of time."""
        names = (path.rpartition("/")[2] for path in self._ls(self._path("versions")))
        return sorted(name for name in names if self._fs.exists(self._path("versions", name, MANIFEST)))

    def find(self, fingerprint: str) -> str | None:
        """Return the version built from this fingerprint, if there is one whose every file is as it was published."""
        for name in reversed(self.versions()):
            if not name.endswith(f"-{fingerprint[:8]}"):
                continue
            try:
                if self.open(name, verify=True).manifest.fingerprint == fingerprint:
                    return name
            except CorruptVersionError as error:
                logger.warning("version %s counts as not there and is built again: %s", name, error.wrong)
        return None

    def open(self, version: str | None = None, verify: bool = False, parts: tuple[str, ...] = ()) -> Version:
        """Return a version, by default the current one, after checking that its files are there in full size.

        Args:
            version: Its name.
            verify: Also read the files and compare their SHA-256.
            parts: The folders in it that are needed, e.g. `index`; the others are not checked. Empty = all.

        Raises:
            NoVersionError: There is no such version.
            FormatVersionError: It was written in another format.
            CorruptVersionError: The manifest or a file of it is missing, cut off or changed.
        """
        name = version if version is not None else self.current()
        if not self._fs.isdir(self._path("versions", name)):
            raise NoVersionError(
                f"workspace {self.uri} has no version {name!r}; it has {', '.join(self.versions()) or 'none'}"
            )
        manifest = self.manifest(name)
        needed = {
            file: expected
            for file, expected in manifest.files.items()
            if not parts or file.startswith(tuple(f"{part}/" for part in parts))
        }
        path = Path(self._path("versions", name)) if self._is_local else self._fetched(name, needed)
        wrong = _first_damage(path, needed, verify)
        if wrong and not self._is_local:
            # The copy may be what is damaged, or older than the version that replaced a damaged one.
            shutil.rmtree(path)
            wrong = _first_damage(self._fetched(name, needed), needed, verify)
        if wrong:
            raise self._corrupt(wrong)
        return Version(path, manifest)

    def manifest(self, name: str) -> Manifest:
        """Return a version's record of itself; its other files are not looked at.

        Raises:
            FormatVersionError: It was written in another format.
            CorruptVersionError: It is missing or damaged.
        """
        path = self._path("versions", name, MANIFEST)
        try:
            content = json.loads(self._fs.cat_file(path))
            found = content["format_version"]
        except FileNotFoundError:
            raise self._corrupt(f"{path} is missing, so version {name} was never completed") from None
        except (ValueError, KeyError, TypeError) as error:
            raise self._corrupt(f"{path} is no manifest ({type(error).__name__}: {error})") from error
        if found != FORMAT_VERSION:
            raise FormatVersionError(
                f"{path} has format version {found!r}, this code reads {FORMAT_VERSION}: "
                "use the release that wrote it, or build the version again with `lightsage run`"
            )
        try:
            manifest = Manifest.model_validate(content)
        except ValidationError as error:
            raise self._corrupt(f"{path} is no valid manifest: {error}") from error
        if manifest.version != name:
            raise self._corrupt(f"{path} is the manifest of {manifest.version!r}, expected {name!r}")
        return manifest

    def local(self, name: str) -> Path | None:
        """A path beside the versions, for what belongs to the workspace and to no version; None where it is remote."""
        return Path(self._path(name)) if self._is_local else None

    def work(self, name: str) -> Path:
        """A local folder for what is kept between runs and is no version: in a local workspace, else in the cache."""
        return Path(self._path(name)) if self._is_local else cache_of(self.uri) / name

    def notes(self, pattern: str) -> dict[str, bytes]:
        """The small files beside the versions whose path matches, e.g. `nights/*/night.json`: path → content."""
        found = dict[str, bytes]()
        for path in sorted(self._fs.glob(self._path(pattern))):
            with contextlib.suppress(FileNotFoundError):  # deleted since
                found[path.removeprefix(f"{self._root}/")] = self._fs.cat_file(path)
        return found

    # Writers

    def note(self, name: str, content: bytes) -> None:
        """Write a small file beside the versions, whole."""
        path = self._path(name)
        if self._is_local:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            write_whole(Path(path), content)
        else:
            self._fs.pipe_file(path, content)

    def forget_note(self, name: str) -> None:
        """Delete a small file, if it is there."""
        if self._fs.exists(self._path(name)):
            self._fs.rm_file(self._path(name))

    def remove(self, version: str) -> None:
        """Delete a version that is not the current one; its manifest goes first, so that no half of it is ever read.

        Raises:
            StoreError: it is the current one, or the lock is not held.
        """
        self._require_lock("remove")
        if version == self.current():
            raise StoreError(f"version {version} is current: publish another first")
        if self._is_local:
            # Moved away in one step; what cannot be deleted now is swept by the next run.
            aside = Path(self._path("staging", f"removed-{uuid.uuid4().hex[:8]}"))
            aside.parent.mkdir(exist_ok=True)
            Path(self._path("versions", version)).replace(aside)
            shutil.rmtree(aside)
            return
        self._fs.rm_file(self._path("versions", version, MANIFEST))
        self._fs.rm(self._path("versions", version), recursive=True)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only writer; what dead runs left behind is swept first.

        Raises:
            WorkspaceBusyError: Another run is writing; the message names it.
        """
        self._fs.makedirs(self._path("versions"), exist_ok=True)
        owner = lock.acquire(self._fs, self._path("lock"), self.uri)
        try:
            self._owner = owner
            self._sweep()
            yield
        finally:
            self._owner = None
            lock.release(self._fs, self._path("lock"), owner)

    @contextlib.contextmanager
    def stage(self, label: str = "build") -> Iterator[Path]:
        """Yield an empty local folder to build a version in, on the workspace's own disk where that is local.

        Whatever is still in it at the end, because of an error or because it was not published, is removed.

        Raises:
            WorkspaceFullError: The disk ran full inside the block.
            StoreError: The lock is not held.
        """
        self._require_lock("stage")
        unique = f"{label}-{uuid.uuid4().hex[:8]}"
        if self._is_local:
            folder = Path(self._path("staging", unique))
            folder.mkdir(parents=True)
        else:
            folder = Path(tempfile.mkdtemp(prefix=f"lightsage-{unique}-"))
        try:
            with full_disk(folder.parent):
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, staged: Path, manifest: Manifest) -> Version:
        """Make the staged folder the version `manifest.version`, and the current one.

        The manifest gets size and SHA-256 of every staged file. A damaged version of the same name is replaced.

        Raises:
            StoreError: The version is there already and whole (versions never change), or the lock is lost.
        """
        self._require_lock("publish")
        if self._is_whole(manifest.version):
            raise StoreError(
                f"workspace {self.uri} has a version {manifest.version} already, and versions never change"
            )
        paths = sorted(path for path in staged.rglob("*") if path.is_file())
        files = {path.relative_to(staged).as_posix(): flushed(path) for path in paths}
        complete = manifest.model_copy(update={"files": files})
        write_whole(staged / MANIFEST, complete.model_dump_json(indent=2).encode())
        self._require_lock("publish")
        self._put_version(staged, manifest.version)
        self._put_current(manifest.version)
        logger.info("published %s in %s", manifest.version, self.uri)
        return self.open(manifest.version)

    def promote(self, version: str) -> Version:
        """Make a complete version the current one.

        Raises:
            NoVersionError: There is no such version.
            StoreError: The lock is not held.
        """
        self._require_lock("promote")
        found = self.open(version)
        self._put_current(version)
        return found

    def _is_whole(self, name: str) -> bool:
        try:
            self.open(name, verify=True)
        except (NoVersionError, CorruptVersionError):
            return False
        return True

    # Paths and files

    def _corrupt(self, wrong: str) -> CorruptVersionError:
        return CorruptVersionError(
            wrong,
            "Run `lightsage run` again to build it anew, or go back to another version: write "
            f'{{"version": "<name>"}} into {self._path("current")}',
        )

    def _path(self, *parts: str) -> str:
        return "/".join((self._root, *parts))

    def _ls(self, path: str) -> list[str]:
        return [entry.rstrip("/") for entry in self._fs.ls(path, detail=False)] if self._fs.isdir(path) else []

    def _require_lock(self, action: str) -> None:
        holder = lock.read(self._fs, self._path("lock"))
        if self._owner is None or holder is None or holder.token != self._owner.token:
            raise StoreError(f"{action} needs the lock of workspace {self.uri}, and this run does not hold it")

    def _sweep(self) -> None:
        # Only the holder of the lock stages, so whatever lies here belongs to a run that is dead.
        for leftover in self._ls(self._path("staging")):
            logger.warning("removing what a dead run left behind: %s", leftover)
            self._fs.rm(leftover, recursive=True)

    def _put_version(self, staged: Path, name: str) -> None:
        target = self._path("versions", name)
        if self._is_local:
            if self._fs.exists(target):  # damaged, or without a manifest and so no version
                # Moved away in one step, so that no reader ever meets a mixture; what stays of it is swept.
                aside = Path(self._path("staging", f"damaged-{uuid.uuid4().hex[:8]}"))
                Path(target).replace(aside)
                shutil.rmtree(aside, ignore_errors=True)
            staged.replace(target)
            flush(Path(target).parent)
            return
        if self._fs.exists(target):
            self._fs.rm(target, recursive=True)
        paths = [path for path in staged.rglob("*") if path.is_file() and path != staged / MANIFEST]
        for part in (paths, [staged / MANIFEST]):
            self._fs.put([str(path) for path in part], [f"{target}/{path.relative_to(staged)}" for path in part])

    def _put_current(self, name: str) -> None:
        content = json.dumps({"version": name}).encode()
        if self._is_local:
            write_whole(Path(self._path("current")), content)
        else:
            self._fs.pipe_file(self._path("current"), content)

    def _fetched(self, name: str, needed: dict[str, FileRecord]) -> Path:
        """The version as a local folder, with the files that are needed."""
        folder = cache_of(self.uri) / "versions" / name
        fetch(self._fs, self._path("versions", name), folder, needed)
        return folder


def _first_damage(folder: Path, expected: dict[str, FileRecord], verify: bool) -> str | None:
    return next((wrong for file, record in expected.items() if (wrong := damage(folder / file, record, verify))), None)
