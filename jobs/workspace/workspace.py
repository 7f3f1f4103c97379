"""The workspace: its versions, the lock, and `current`. Only this file knows their paths.

A run assembles a version in a scratch folder. To publish it, the workspace computes the checksums, writes the manifest,
puts the folder under the version's name, and then replaces `current`. Until that last step, the version published
before stays current. The workspace knows nothing of the packages graph_build, model and retrieval; each of them reads
and writes its own folder inside a version.
"""

import contextlib
import json
import logging
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fsspec.core import url_to_fs
from pydantic import ValidationError

from jobs.errors import (
    CorruptVersionError,
    FormatVersionError,
    NoVersionError,
    StoreError,
)
from jobs.workspace import lock
from jobs.workspace.atomic_files import damage, flush, flushed, full_disk, write_whole
from jobs.workspace.manifest import (
    FORMAT_VERSION,
    FileRecord,
    Manifest,
)
from jobs.workspace.remote_cache import cache_of, fetch

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Version:
    """A published version: a local folder that never changes, and its manifest."""

    path: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        """The version's name, by which the workspace finds it."""
        return self.manifest.version


class Workspace:
    """A folder of versions, local or at a URI that fsspec knows.

    Readers need no lock: a version never changes, and `current` is replaced in one step. Writers hold `lock`.
    """

    def __init__(self, uri: str | Path) -> None:
        self.uri = str(uri)
        try:
            # No cached listings: other hosts publish too.
            self._fs, root = url_to_fs(self.uri, use_listings_cache=False)
        except (ValueError, ImportError) as error:  # unknown scheme, or its package is not installed
            raise StoreError(f"workspace {self.uri} cannot be used: {error}") from error
        self._root: str = root.rstrip("/")
        self._is_local = "file" in self._fs.protocol
        self._owner: lock.Owner | None = None

    # Readers

    def current(self) -> str:
        """Return the name of the published version.

        Raises:
            NoVersionError: nothing has been published yet.
            CorruptVersionError: `current` is damaged.
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
                "Run `lightsage run` again, which publishes the existing version, or write the file by hand",
            )
        return version

    def versions(self) -> list[str]:
        """Return the names of the complete versions, sorted, which is also the order of their as-of times."""
        names = (path.rpartition("/")[2] for path in self._ls(self._path("versions")))
        return sorted(name for name in names if self._fs.exists(self._path("versions", name, MANIFEST)))

    def find(self, fingerprint: str) -> str | None:
        """Return the name of the undamaged version with this fingerprint; None if there is none."""
        for name in reversed(self.versions()):
            if not name.endswith(f"-{fingerprint[:8]}"):
                continue
            try:
                if self.open(name, verify=True).manifest.fingerprint == fingerprint:
                    return name
            except CorruptVersionError as error:
                logger.warning("version %s is damaged and will be built again: %s", name, error.damage)
        return None

    def open(self, version: str | None = None, verify: bool = False, parts: tuple[str, ...] = ()) -> Version:
        """Return a version after checking that its files exist and have their recorded sizes.

        Args:
            version: the name of the version; by default the current one.
            verify: whether to read the files and compare their SHA-256 as well.
            parts: folders of the version that are needed, e.g. `("index",)`; by default all. From a remote workspace,
                only these are downloaded.

        Raises:
            NoVersionError: there is no such version.
            FormatVersionError: it was written in another format.
            CorruptVersionError: its manifest or a needed file is missing, cut off or changed.
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
        damaged = _first_damage(path, needed, verify)
        if damaged and not self._is_local:
            # The local copy may be damaged. It may also be outdated: a rebuilt remote version keeps its name.
            shutil.rmtree(path)
            damaged = _first_damage(self._fetched(name, needed), needed, verify)
        if damaged:
            raise self._corrupt(damaged)
        return Version(path, manifest)

    def manifest(self, name: str) -> Manifest:
        """Return a version's manifest, without checking its other files.

        Raises:
            FormatVersionError: it was written in another format.
            CorruptVersionError: it is missing or damaged.
        """
        path = self._path("versions", name, MANIFEST)
        try:
            content = json.loads(self._fs.cat_file(path))
            format_version = content["format_version"]
        except FileNotFoundError:
            raise self._corrupt(f"{path} is missing: version {name} was never completed") from None
        except (ValueError, KeyError, TypeError) as error:
            raise self._corrupt(f"{path} is not a manifest ({type(error).__name__}: {error})") from error
        if format_version != FORMAT_VERSION:
            raise FormatVersionError(
                f"{path} has format version {format_version!r}, this code reads {FORMAT_VERSION}: "
                "use the release that wrote it, or build the version again with `lightsage run`"
            )
        try:
            manifest = Manifest.model_validate(content)
        except ValidationError as error:
            raise self._corrupt(f"{path} is not a valid manifest: {error}") from error
        if manifest.version != name:
            raise self._corrupt(f"{path} is the manifest of {manifest.version!r}, expected {name!r}")
        return manifest

    def local_path(self, name: str) -> Path | None:
        """Return the path of a file or folder beside the versions; None if the workspace is remote."""
        return Path(self._path(name)) if self._is_local else None

    def work_folder(self, name: str) -> Path:
        """Return the path of a local folder for work in progress.

        It is inside the workspace if that is local, else in this host's cache.
        """
        return Path(self._path(name)) if self._is_local else cache_of(self.uri) / name

    def read_files(self, pattern: str) -> dict[str, bytes]:
        """Return path → content of the small files beside the versions that match e.g. `nights/*/night.json`."""
        contents = dict[str, bytes]()
        for path in sorted(self._fs.glob(self._path(pattern))):
            with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
                contents[path.removeprefix(f"{self._root}/")] = self._fs.cat_file(path)
        return contents

    # Writers

    def write_file(self, name: str, content: bytes) -> None:
        """Write a small file beside the versions in one step."""
        path = self._path(name)
        if self._is_local:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            write_whole(Path(path), content)
        else:
            self._fs.pipe_file(path, content)

    def delete_file(self, name: str) -> None:
        """Delete a small file beside the versions, if it exists."""
        if self._fs.exists(self._path(name)):
            self._fs.rm_file(self._path(name))

    def remove(self, version: str) -> None:
        """Delete a version that is not current.

        Nobody sees half of it: locally it is moved away in one step, remotely its manifest is deleted first.

        Raises:
            StoreError: the version is current, or the lock is not held.
        """
        self._require_lock("remove")
        if version == self.current():
            raise StoreError(f"version {version} is current: publish another first")
        if self._is_local:
            # Moved away in one step; the next run deletes whatever cannot be deleted now.
            shutil.rmtree(self._moved_aside(self._path("versions", version)))
            return
        self._fs.rm_file(self._path("versions", version, MANIFEST))
        self._fs.rm(self._path("versions", version), recursive=True)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Make this run the only writer during the block, and first delete what dead runs left behind.

        Raises:
            WorkspaceBusyError: another run is writing; the message names it.
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
    def scratch_folder(self) -> Iterator[Path]:
        """Yield an empty local folder in which to assemble a version, on the disk of the work folders.

        At the end of the block the folder is deleted, unless it was published.

        Raises:
            WorkspaceFullError: the disk ran full inside the block.
            StoreError: the lock is not held.
        """
        self._require_lock("scratch_folder")
        folder = self.work_folder("staging") / f"build-{uuid.uuid4().hex[:8]}"
        folder.mkdir(parents=True)
        try:
            with full_disk(folder.parent):
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, staged: Path, manifest: Manifest) -> Version:
        """Turn a scratch folder into the version `manifest.version`, and make that version current.

        The manifest gets the size and SHA-256 of every file. A damaged version of the same name is replaced.

        Raises:
            StoreError: an undamaged version of this name exists (versions never change), or the lock is lost.
        """
        self._require_lock("publish")
        if self._is_whole(manifest.version):
            raise StoreError(
                f"workspace {self.uri} already has a version {manifest.version}, and versions never change"
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
            NoVersionError: there is no such version.
            StoreError: the lock is not held.
        """
        self._require_lock("promote")
        opened = self.open(version)
        self._put_current(version)
        return opened

    def _is_whole(self, name: str) -> bool:
        try:
            self.open(name, verify=True)
        except (NoVersionError, CorruptVersionError):
            return False
        return True

    # Paths and files

    def _corrupt(self, damage: str) -> CorruptVersionError:
        return CorruptVersionError(
            damage,
            "Run `lightsage run` again to rebuild it, or go back to another version: write "
            f'{{"version": "<name>"}} into {self._path("current")}',
        )

    def _path(self, *parts: str) -> str:
        return "/".join((self._root, *parts))

    def _ls(self, path: str) -> list[str]:
        return [entry.rstrip("/") for entry in self._fs.ls(path, detail=False)] if self._fs.isdir(path) else []

    def _require_lock(self, action: str) -> None:
        holder = lock.read(self._fs, self._path("lock"))
        if self._owner is None or holder is None or holder.token != self._owner.token:
            raise StoreError(f"{action} needs the lock of workspace {self.uri}, but this run does not hold it")

    def _sweep(self) -> None:
        # Only the holder of the lock has a scratch folder, so any that exists belongs to a dead run.
        staging = self.work_folder("staging")
        for leftover in sorted(staging.iterdir()) if staging.is_dir() else ():
            logger.warning("removing what an interrupted run left behind: %s", leftover)
            shutil.rmtree(leftover)

    def _moved_aside(self, target: str) -> Path:
        """Move a version out of the way in one step, so that no reader sees a part of it; return its new place."""
        aside = self.work_folder("staging") / f"removed-{uuid.uuid4().hex[:8]}"
        aside.parent.mkdir(exist_ok=True)
        Path(target).replace(aside)
        return aside

    def _put_version(self, staged: Path, name: str) -> None:
        target = self._path("versions", name)
        if self._is_local:
            if self._fs.exists(target):  # it is damaged, or has no manifest
                shutil.rmtree(self._moved_aside(target), ignore_errors=True)
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
        """Download the needed files of a remote version; return the local folder that holds them."""
        folder = cache_of(self.uri) / "versions" / name
        fetch(self._fs, self._path("versions", name), folder, needed)
        return folder


def _first_damage(folder: Path, expected: dict[str, FileRecord], verify: bool) -> str | None:
    damages = (damage(folder / file, record, verify) for file, record in expected.items())
    return next((text for text in damages if text), None)
