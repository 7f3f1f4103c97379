"""The workspace: its versions, its locks, and `current`. Only the modules of this folder know the paths of these.

A run assembles a version in a scratch folder. To publish it, the workspace computes the checksums, writes the manifest,
gives the folder the version's name, and then replaces `current`. Until that last step, the version published before
stays current. A version that is added without publishing lies beside the published ones until it is promoted. The
workspace knows nothing of the packages graph_build, model and retrieval; each of them reads and writes its own folder
inside a version.

There are two locks. A build holds `lock` from its beginning to its end. A process holds `current.lock` only while it
replaces `current` or deletes a version, so a rollback need not wait for a build.
"""

import contextlib
import datetime as dt
import logging
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from jobs.errors import LockLostError, NoVersionError, StoreError, WorkspaceBusyError
from jobs.workspace.atomic_files import full_disk
from jobs.workspace.current_version import (
    CURRENT,
    Current,
    Rollback,
    current_or_none,
    find_rollback,
    hold,
    published,
    read_current,
    read_rollbacks,
    write_current,
    write_rollbacks,
)
from jobs.workspace.lock import Lock
from jobs.workspace.manifest import UNPUBLISHED, Manifest, build_key
from jobs.workspace.remote_cache import cache_of
from jobs.workspace.storage import Storage
from jobs.workspace.sweep import MANIFEST, sweep
from jobs.workspace.version_folder import Version, VersionFolder

logger = logging.getLogger(__name__)

# How many seconds to wait while another process replaces `current` or deletes a version.
_MOMENT_SECONDS = 120.0


class Workspace:
    """A folder of versions, local or at a URI that fsspec knows.

    Readers need no lock: a version never changes, and `current` is replaced in one step.
    """

    def __init__(self, uri: str | Path) -> None:
        self.uri = str(uri)
        self._storage = Storage(self.uri)
        self._versions = VersionFolder(self._storage, self.work_folder("staging"))
        self._build_lock: Lock | None = None
        self._current_at_begin: bytes | None = None  # the content of `current` that this run found or wrote
        self._doubts = set[str]()

    # Readers

    def current(self) -> str:
        """Return the name of the published version; if `published` has a warning, log it once.

        Raises:
            NoVersionError: nothing has been published yet.
            CorruptVersionError: `current` is damaged, and there is no whole version.
        """
        name, doubt = self.published()
        if doubt and doubt not in self._doubts:
            logger.warning("%s", doubt)
            self._doubts.add(doubt)
        return name

    def published(self) -> tuple[str, str | None]:
        """Return the name of the published version, and a warning if `current` does not name it, else None.

        If `current` is missing or damaged, or names a version that is gone, the newest whole version that nobody rolled
        back takes its place.

        Raises:
            NoVersionError: nothing has been published yet.
            CorruptVersionError: `current` is damaged, and there is no whole version.
        """
        return published(self._storage, lambda: self._versions.newest_whole(self.rollbacks()))

    def pointer(self) -> Current:
        """Return the content of `current`.

        Raises:
            NoVersionError: there is no such file.
            CorruptVersionError: the file is damaged.
        """
        return read_current(self._storage)

    def versions(self) -> list[str]:
        """Return the names of the complete versions that were published, in the order of publication."""
        return self._versions.names()

    def unpublished(self) -> list[str]:
        """Return the names of the complete versions that were never published, in the order in which they were made."""
        return self._versions.unpublished()

    def rollbacks(self) -> dict[str, Rollback]:
        """Return name → rollback of every version that was rolled back, or kept from becoming current."""
        return read_rollbacks(self._storage)

    def find(self, fingerprint: str) -> str | None:
        """Return the name of the undamaged version with this fingerprint, published or not; None if there is none."""
        return self._versions.find(fingerprint)

    def manifest(self, name: str) -> Manifest:
        """Return a version's manifest, without checking its other files.

        Raises:
            FormatVersionError: the version was written in another format.
            CorruptVersionError: the manifest is missing or damaged.
        """
        return self._versions.manifest(name)

    def open(self, version: str | None = None, verify: bool = False, parts: tuple[str, ...] = ()) -> Version:
        """Return a version after checking that its files exist and have their recorded sizes.

        Args:
            version: the name of the version; by default the current one.
            verify: whether to read the files and compare their SHA-256 as well.
            parts: folders and files of the version that are needed, e.g. `("index",)`; by default all. From a remote
                workspace, only these are downloaded.

        Raises:
            NoVersionError: there is no such version.
            FormatVersionError: the version was written in another format.
            CorruptVersionError: the manifest or a needed file is missing, cut off or changed.
        """
        return self._versions.open(version if version is not None else self.current(), verify, parts)

    def rollback_of(self, version: str | None, key: str = "") -> Rollback | None:
        """Return the rollback of a version that a person rolled back; None if nobody did.

        Args:
            version: the name of the version; None if it is not built yet.
            key: the `build_key` of the version; a rollback of another version with this key counts too.
        """
        return find_rollback(self._storage, version, key)

    def local_path(self, name: str) -> Path | None:
        """Return the path of a file or folder beside the versions; None if the workspace is remote."""
        return Path(self._path(name)) if self._is_local else None

    def work_folder(self, name: str) -> Path:
        """Return the path of a local folder for work in progress.

        If the workspace is local, the folder is inside it, else in this host's cache.
        """
        return Path(self._path(name)) if self._is_local else cache_of(self.uri) / name

    def names(self, folder: str) -> list[str]:
        """Return the sorted names in a folder beside the versions; an empty list if there is no such folder."""
        return self._storage.names(folder)

    def read_file(self, name: str) -> bytes | None:
        """Return the content of a small file beside the versions; None if it does not exist."""
        return self._storage.read_if_exists(name)

    def written_at(self, folder: str) -> dict[str, dt.datetime | None]:
        """Return name → time of the last write, by the store's clock, for each file in a folder beside the versions."""
        return {name: file.modified for name, file in self._storage.tree(folder).items()}

    # Writers

    def write_file(self, name: str, content: bytes) -> None:
        """Write a small file beside the versions in one step."""
        self._storage.write(name, content)

    def delete_file(self, name: str) -> None:
        """Delete a small file beside the versions, if it exists."""
        self._storage.delete(name)

    def remove(self, version: str) -> None:
        """Delete a version that is not current.

        No reader sees half of the version: on disk it is moved away in one step, in a store its manifest is deleted
        first.

        Raises:
            StoreError: the version is current, or the lock is not held.
        """
        self._require_lock("remove")
        with self._moment():
            if version == self.current():
                raise StoreError(f"version {version} is current: publish another first")
            if self._is_local:
                aside = self._versions.move_aside(version)
            else:
                self._storage.delete(f"versions/{version}/{MANIFEST}")
        # The next run deletes whatever cannot be deleted now.
        if self._is_local:
            shutil.rmtree(aside)
        else:
            self._storage.delete_tree(f"versions/{version}")

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Let no other run build during the block. Before the block, delete the leftovers of dead runs.

        Raises:
            WorkspaceBusyError: another run is writing; the message names it.
            LockLostError: another run has taken the lock over, because this run stood still.
        """
        lock = Lock(self._storage, "lock")
        lock.acquire()
        try:
            self._build_lock = lock
            self._current_at_begin = self._storage.read_if_exists(CURRENT)
            sweep(
                self._storage, self.work_folder("staging"), None if self._is_local else cache_of(self.uri) / "versions"
            )
            yield
        except LockLostError:
            raise
        except Exception as error:
            # Without the lock, another run may have deleted what this one was using.
            with contextlib.suppress(OSError):
                try:
                    lock.check()
                except LockLostError as lost:
                    raise lost from error
                except StoreError:
                    pass
            raise
        finally:
            self._build_lock = None
            lock.release()

    def check_lock(self) -> None:
        """Make sure that this run still holds the lock. Call this before changing files that another run may use.

        Raises:
            LockLostError: another run has taken the lock over.
        """
        self._require_lock("a build")

    @contextlib.contextmanager
    def scratch_folder(self) -> Iterator[Path]:
        """Yield an empty local folder in which to assemble a version, on the disk of the work folders.

        At the end of the block the folder is deleted, unless it has become a version.

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

        The manifest gets the size and SHA-256 of every file, and its place in the order of publication. A damaged
        version of the same name is replaced.

        Raises:
            RolledBackError: a person rolled back since this run took the lock; the version stays in the workspace.
            StoreError: an undamaged version of this name exists (versions never change), or the lock is lost.
        """
        self._put(staged, manifest, self._versions.next_publication())
        version = self.promote(manifest.version)
        logger.info("published %s in %s", manifest.version, self.uri)
        return version

    def add(self, staged: Path, manifest: Manifest) -> Version:
        """Turn a scratch folder into the version `manifest.version` as `publish` does, but do not make it current.

        `promote` publishes it later.

        Raises:
            StoreError: an undamaged version of this name exists, or the lock is lost.
        """
        self._put(staged, manifest, UNPUBLISHED)
        logger.info("added %s to %s, unpublished", manifest.version, self.uri)
        return self.open(manifest.version)

    def promote(self, version: str, metrics: Mapping[str, Any] | None = None) -> Version:
        """Make a complete version current. If it was never published, it first gets its place in the order.

        Args:
            version: the name of the version.
            metrics: further metrics for the manifest of a version that was never published.

        Raises:
            NoVersionError: there is no such version.
            RolledBackError: a person rolled back since this run took the lock.
            StoreError: the lock is not held.
        """
        self._require_lock("promote")
        opened = self.open(version)
        if opened.manifest.publication == UNPUBLISHED:
            opened = Version(opened.path, self._versions.set_published(version, metrics or {}))
        with self._moment() as moment:
            content = self._storage.read_if_exists(CURRENT)
            if content != self._current_at_begin:
                raise hold(self._storage, version)
            if current_or_none(self._storage) != version:
                self._put_current(version, "build", moment)
            key = build_key(opened.manifest)
            again = [name for name, entry in read_rollbacks(self._storage).items() if entry.key == key]
            write_rollbacks(self._storage, {}, removed=[version, *again])
        return opened

    def roll_back(self, version: str, instead_of: str | None) -> None:
        """Make a complete version current because a person demands it.

        The versions published after this version, up to and including `instead_of`, count as rolled back.

        The caller needs no lock. The call waits only while another process replaces `current` or deletes a version.

        Args:
            version: the name of the version.
            instead_of: the version that is current; None if `current` is missing or damaged.

        Raises:
            WorkspaceBusyError: another version has become current meanwhile.
            NoVersionError, CorruptVersionError: there is no such whole version.
        """
        with self._moment() as moment:
            if current_or_none(self._storage) != instead_of:
                raise WorkspaceBusyError(
                    f"{current_or_none(self._storage)} has just been published; run `rollback` again"
                )
            self._versions.check_whole(version)
            order = self.versions()
            if version not in order:
                raise NoVersionError(f"version {version} was never published; `lightsage publish {version}` does so")
            last = order.index(instead_of) if instead_of in order else len(order) - 1
            passed_over = order[order.index(version) + 1 : last + 1]
            at = dt.datetime.now(dt.UTC)
            entries = {name: Rollback(at=at, to=version, key=self._versions.key_of(name)) for name in passed_over}
            write_rollbacks(self._storage, entries, removed=[version])
            self._put_current(version, "rollback", moment)

    def _put(self, staged: Path, manifest: Manifest, publication: int) -> None:
        self._require_lock("publish")
        self._versions.seal(staged, manifest.model_copy(update={"publication": publication}))
        self._require_lock("publish")  # the checksums may have taken long
        self._versions.put(staged, manifest.version)

    # Paths and files

    def _path(self, *parts: str) -> str:
        return self._storage.path(*parts)

    @property
    def _is_local(self) -> bool:
        return self._storage.is_local

    def _require_lock(self, action: str) -> None:
        if self._build_lock is None:
            raise StoreError(f"{action} needs the lock of workspace {self.uri}, but this run does not hold it")
        self._build_lock.check()

    @contextlib.contextmanager
    def _moment(self) -> Iterator[Lock]:
        """Be the only process that replaces `current` or deletes a version."""
        moment = Lock(self._storage, "current.lock")
        moment.acquire(_MOMENT_SECONDS)
        try:
            yield moment
        finally:
            moment.release()

    def _put_current(self, name: str, by: Literal["build", "rollback"], moment: Lock) -> None:
        if self._build_lock is not None:
            self._build_lock.check()
        moment.check()
        self._current_at_begin = write_current(self._storage, name, by, current_or_none(self._storage))
