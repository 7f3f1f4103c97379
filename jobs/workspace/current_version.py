"""Which version is current, what made it current, and which versions a person rolled back.

The file `current` names the version that is served. The rollbacks are kept in a file of their own, `rollbacks.json`, so
that they are not lost if `current` is lost.
"""

import datetime as dt
import json
import logging
from collections.abc import Callable, Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobs.errors import CorruptVersionError, NoVersionError, RolledBackError, StoreError
from jobs.workspace.storage import Storage

log = logging.getLogger(__name__)

CURRENT, ROLLBACKS = "current", "rollbacks.json"


class Current(BaseModel):
    """The content of `current`. Files of older releases hold only `version`.

    Args:
        version: the name of the version that is served.
        by: what made the version current: a build, or a person with `lightsage rollback`.
        at: when it became current, UTC.
        before: the version that was current before.
    """

    model_config = ConfigDict(frozen=True, strict=False)

    version: str
    by: Literal["build", "rollback"] | None = None
    at: dt.datetime | None = None
    before: str | None = None


class Rollback(BaseModel):
    """The rollback of one version. The version becomes current again only if a person demands it.

    Args:
        at: when a person rolled back, UTC.
        to: the version that was made current instead.
        key: the `build_key` of the version that was rolled back; a build with the same key is the same night. Empty if
            the key is unknown.
        held: whether the version was never current, because it was being built while a person rolled back. Such a
            version may be published if it is built again.
    """

    model_config = ConfigDict(frozen=True)

    at: dt.datetime
    to: str
    key: str = ""
    held: bool = False


class _Rollbacks(BaseModel):
    versions: dict[str, Rollback] = Field(default_factory=dict)


def read_current(storage: Storage) -> Current:
    """Return the content of `current`.

    Args:
        storage: the files of the workspace.

    Raises:
        NoVersionError: there is no such file.
        CorruptVersionError: the file is damaged.
    """
    content = storage.read_if_exists(CURRENT)
    if content is None:
        raise NoVersionError(f"workspace {storage.uri} has no published version: run `lightsage run` first")
    try:
        fields = json.loads(content)
        if isinstance(fields["version"], str) and fields["version"]:
            return _lenient(fields)
    except (ValueError, KeyError, TypeError):
        pass
    raise CorruptVersionError(
        f'{storage.path(CURRENT)} is not {{"version": "<name>"}}',
        "Run `lightsage run` again, which publishes the existing version, or name one with `lightsage rollback --to`",
    )


def write_current(storage: Storage, version: str, by: Literal["build", "rollback"], before: str | None) -> bytes:
    """Make a version current in one step; return the new content of `current`.

    Args:
        storage: the files of the workspace.
        version: the name of the version.
        by: what makes the version current: a build, or a person with `lightsage rollback`.
        before: the version that was current before.
    """
    current = Current(version=version, by=by, at=dt.datetime.now(dt.UTC), before=before)
    content = current.model_dump_json().encode()
    storage.write(CURRENT, content)
    return content


def read_rollbacks(storage: Storage) -> dict[str, Rollback]:
    """Return name of a version → its rollback, for every version that was rolled back.

    Args:
        storage: the files of the workspace.
    """
    content = storage.read_if_exists(ROLLBACKS)
    try:
        return {} if content is None else _Rollbacks.model_validate_json(content).versions
    except ValidationError as error:
        log.warning("%s cannot be read, so no version counts as rolled back: %s", storage.path(ROLLBACKS), error)
        return {}


def write_rollbacks(storage: Storage, added: dict[str, Rollback], removed: Iterable[str] = ()) -> None:
    """Record rollbacks, and delete the rollbacks of versions that have become current again.

    Args:
        storage: the files of the workspace.
        added: name of the version → its rollback.
        removed: names of versions that no longer count as rolled back.
    """
    before = read_rollbacks(storage)
    after = {name: entry for name, entry in (before | added).items() if name not in set(removed)}
    if after != before:
        storage.write(ROLLBACKS, _Rollbacks(versions=after).model_dump_json(indent=1).encode())


def current_or_none(storage: Storage) -> str | None:
    """Return the version that `current` names; None if this file is missing or damaged.

    Args:
        storage: the files of the workspace.
    """
    try:
        return read_current(storage).version
    except (NoVersionError, CorruptVersionError):
        return None


def published(storage: Storage, newest_whole: Callable[[], str | None]) -> tuple[str, str | None]:
    """Return (the published version's name, a warning if `current` does not name it); see `Workspace.published`.

    Args:
        storage: the files of the workspace.
        newest_whole: returns the newest whole version that nobody rolled back, if there is one.
    """
    try:
        named = read_current(storage).version
        if storage.exists(f"versions/{named}/manifest.json"):
            return named, None
        problem: StoreError = NoVersionError(f"{storage.path(CURRENT)} names {named}, which does not exist")
    except (NoVersionError, CorruptVersionError) as error:
        named, problem = "", error
    if newest := newest_whole():
        what = getattr(problem, "damage", None) or (str(problem) if named else f"{storage.path(CURRENT)} is missing")
        return newest, (
            f"{what}; the newest whole version {newest} counts as published. Make it current with `lightsage rollback "
            f"--to {newest}`, or name another version there"
        )
    if named:
        return named, None  # opening this version raises an error that says what is wrong
    raise problem


def find_rollback(storage: Storage, version: str | None, key: str) -> Rollback | None:
    """Return the rollback of a version; see `Workspace.rollback_of`.

    Args:
        storage: the files of the workspace.
        version: the name of the version; None if it is not built yet.
        key: the `build_key` of the version.
    """
    if (current := current_or_none(storage)) == version and version is not None:
        return None
    for name, entry in read_rollbacks(storage).items():
        if name != current and not entry.held and (name == version or (key and entry.key == key)):
            return entry
    return None


def hold(storage: Storage, version: str) -> RolledBackError:
    """Record that a version is not made current, because a person has changed `current`; return the error to raise.

    Args:
        storage: the files of the workspace.
        version: the name of the version.
    """
    current = current_or_none(storage)
    if version != current:
        write_rollbacks(storage, {version: Rollback(at=dt.datetime.now(dt.UTC), to=current or "", held=True)})
    return RolledBackError(
        f"version {version} is built, but not made current: {current} was made current by hand meanwhile, and "
        f"stays published. `lightsage rollback --to {version}` publishes the new version"
    )


def _lenient(fields: dict[str, object]) -> Current:
    """Return the content of `current`; if a person changed it and another field is invalid, only `version` counts."""
    try:
        return Current.model_validate(fields)
    except ValidationError:
        return Current(version=str(fields["version"]))
