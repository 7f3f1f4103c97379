"""Finds, opens, checks, stores and moves aside the versions of a workspace."""

import contextlib
import datetime as dt
import json
import logging
import shutil
import uuid
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from jobs.errors import CorruptVersionError, FormatVersionError, NoVersionError, StoreError
from jobs.workspace.atomic_files import damage, flush, flushed, write_whole
from jobs.workspace.manifest import FORMAT_VERSION, UNPUBLISHED, FileRecord, Manifest, build_key
from jobs.workspace.remote_cache import cache_of, fetch
from jobs.workspace.storage import Storage
from jobs.workspace.sweep import MANIFEST

logger = logging.getLogger(__name__)

_OLDER = -1  # the place in the order of publication, if the manifest is of a release that did not record places


@dataclass(frozen=True)
class Version:
    """A version: a local folder whose files never change, and its manifest."""

    path: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        """The version's name, by which the workspace finds it."""
        return self.manifest.version


class VersionFolder:
    """The folder `versions` of a workspace.

    Args:
        storage: the files of the workspace.
        staging: the local folder of scratch folders; if the versions are local, it is on the same disk.
    """

    def __init__(self, storage: Storage, staging: Path) -> None:
        self._storage, self._staging = storage, staging

    def names(self) -> list[str]:
        """Return the names of the complete versions that were published, in the order of publication."""
        return [name for number, _, name in self._ordered() if number != UNPUBLISHED]

    def unpublished(self) -> list[str]:
        """Return the names of the complete versions that were never published, in the order in which they were made."""
        return [name for number, _, name in self._ordered() if number == UNPUBLISHED]

    def _ordered(self) -> list[tuple[int, dt.datetime, str]]:
        names = self._storage.names("versions")
        return sorted(self.order(name) for name in names if self._storage.exists(f"versions/{name}/{MANIFEST}"))

    def find(self, fingerprint: str) -> str | None:
        """Return the name of the undamaged version with this fingerprint, published or not; None if there is none."""
        for _, _, name in reversed(self._ordered()):
            if not name.endswith(f"-{fingerprint[:8]}"):
                continue
            try:
                if self.open(name, verify=True).manifest.fingerprint == fingerprint:
                    return name
            except CorruptVersionError as error:
                logger.warning("version %s is damaged and will be built again: %s", name, error.damage)
            except FormatVersionError as error:
                logger.warning("version %s will be built again: %s", name, error)
        return None

    def open(self, name: str, verify: bool = False, parts: tuple[str, ...] = ()) -> Version:
        """Return a version after checking that its files exist and have their recorded sizes.

        Args:
            name: the name of the version.
            verify: whether to read the files and compare their SHA-256 as well.
            parts: folders and files of the version that are needed, e.g. `("index",)`; by default all. From a remote
                workspace, only these are downloaded.

        Raises:
            NoVersionError: there is no such version.
            FormatVersionError: the version was written in another format.
            CorruptVersionError: the manifest or a needed file is missing, cut off or changed.
        """
        if name not in self._storage.names("versions"):
            raise NoVersionError(
                f"workspace {self._storage.uri} has no version {name!r}; it has "
                f"{', '.join(name for _, _, name in self._ordered()) or 'none'}"
            )
        manifest = self.manifest(name)
        needed = {
            file: expected
            for file, expected in manifest.files.items()
            if not parts or file in parts or file.startswith(tuple(f"{part}/" for part in parts))
        }
        path = Path(self._storage.path("versions", name)) if self._storage.is_local else self._fetched(name, needed)
        damaged = _first_damage(path, needed, verify)
        if damaged and not self._storage.is_local:
            # The local copy may be damaged or outdated: a remote version that is built again keeps its name.
            shutil.rmtree(path)
            damaged = _first_damage(self._fetched(name, needed), needed, verify)
        if damaged:
            raise self._corrupt(damaged)
        return Version(path, manifest)

    def manifest(self, name: str) -> Manifest:
        """Return a version's manifest, without checking its other files.

        Raises:
            FormatVersionError: the version was written in another format.
            CorruptVersionError: the manifest is missing or damaged.
        """
        path = self._storage.path("versions", name, MANIFEST)
        try:
            content = json.loads(self._storage.read(f"versions/{name}/{MANIFEST}"))
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

    def check_whole(self, name: str) -> None:
        """Check a version without downloading it: its manifest is valid, and its files have their recorded sizes."""
        if name not in self._storage.names("versions"):
            raise NoVersionError(f"workspace {self._storage.uri} has no version {name!r}")
        expected, stored = self.manifest(name).files, self._storage.tree(f"versions/{name}")
        for file, record in expected.items():
            if file not in stored or stored[file].bytes != record.bytes:
                raise self._corrupt(f"{self._storage.path('versions', name, file)} is missing or cut off")

    def is_whole(self, name: str) -> bool:
        """Return whether the version exists, and every file has its recorded checksum."""
        try:
            self.open(name, verify=True)
        except (NoVersionError, CorruptVersionError):
            return False
        return True

    def newest_whole(self, excluded: Container[str]) -> str | None:
        """Return the last published version that `check_whole` accepts; None if there is none.

        Args:
            excluded: names of versions that do not count.
        """
        for name in reversed(self.names()):
            if name not in excluded:
                with contextlib.suppress(CorruptVersionError, FormatVersionError):
                    self.check_whole(name)
                    return name
        return None

    def next_publication(self) -> int:
        """Return the place of the next version in the order of publication."""
        return max([0, *(self.order(name)[0] for name in self.names())]) + 1

    def order(self, name: str) -> tuple[int, dt.datetime, str]:
        """Return the key that sorts versions: place of publication (-1 in older manifests), time of creation, name."""
        number, created = _OLDER, dt.datetime.min.replace(tzinfo=dt.UTC)
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, FileNotFoundError):
            content = json.loads(self._storage.read(f"versions/{name}/{MANIFEST}"))
            created = dt.datetime.fromisoformat(content["created_at"]).astimezone(dt.UTC)
            publication = content.get("publication")
            number = _OLDER if publication is None else int(publication)
        return number, created, name

    def set_published(self, name: str, metrics: Mapping[str, Any]) -> Manifest:
        """Give a version the next place in the order of publication, in one step; return its new manifest.

        Args:
            name: the name of the version.
            metrics: further metrics for its manifest.
        """
        manifest = self.manifest(name)
        update = {"publication": self.next_publication(), "metrics": {**manifest.metrics, **metrics}}
        published = manifest.model_copy(update=update)
        self._storage.write(f"versions/{name}/{MANIFEST}", published.model_dump_json(indent=2).encode())
        return published

    def key_of(self, name: str) -> str:
        """Return the `build_key` of a version; "" if its manifest cannot be read."""
        try:
            return build_key(self.manifest(name))
        except (CorruptVersionError, FormatVersionError):
            return ""

    def move_aside(self, name: str) -> Path:
        """Move a version away in one step, so that no reader sees a part of it; return its new folder."""
        aside = self._staging / f"removed-{uuid.uuid4().hex[:8]}"
        aside.parent.mkdir(exist_ok=True)
        Path(self._storage.path("versions", name)).replace(aside)
        return aside

    def seal(self, staged: Path, manifest: Manifest) -> None:
        """Write the manifest, with the size and SHA-256 of every file, as the last file of a scratch folder.

        Raises:
            StoreError: an undamaged version of this name exists (versions never change).
        """
        if self.is_whole(manifest.version):
            raise StoreError(
                f"workspace {self._storage.uri} already has a version {manifest.version}, and versions never change"
            )
        paths = sorted(path for path in staged.rglob("*") if path.is_file())
        files = {path.relative_to(staged).as_posix(): flushed(path) for path in paths}
        complete = manifest.model_copy(update={"files": files})
        write_whole(staged / MANIFEST, complete.model_dump_json(indent=2).encode())

    def put(self, staged: Path, name: str) -> None:
        """Turn a scratch folder into a version: locally in one step, remotely file by file, the manifest last."""
        target = self._storage.path("versions", name)
        if self._storage.is_local:
            if Path(target).exists():  # it is damaged, or has no manifest
                shutil.rmtree(self.move_aside(name), ignore_errors=True)
            Path(target).parent.mkdir(exist_ok=True)
            staged.replace(target)
            flush(Path(target).parent)
            return
        self._storage.delete(f"versions/{name}/{MANIFEST}")
        self._storage.delete_tree(f"versions/{name}")
        paths = [path for path in staged.rglob("*") if path.is_file() and path != staged / MANIFEST]
        for part in (paths, [staged / MANIFEST]):
            self._storage.upload(part, [f"versions/{name}/{path.relative_to(staged).as_posix()}" for path in part])

    def _corrupt(self, damage: str) -> CorruptVersionError:
        return CorruptVersionError(
            damage,
            "Run `lightsage run` again to rebuild it, or go back to another version with `lightsage rollback --to`",
        )

    def _fetched(self, name: str, needed: dict[str, FileRecord]) -> Path:
        """Download the needed files of a remote version; return the local folder that holds them."""
        folder = cache_of(self._storage.uri) / "versions" / name
        with self._storage.errors():
            fetch(self._storage.fs, self._storage.path("versions", name), folder, needed)
        return folder


def _first_damage(folder: Path, expected: dict[str, FileRecord], verify: bool) -> str | None:
    damages = (damage(folder / file, record, verify) for file, record in expected.items())
    return next((text for text in damages if text), None)
