"""Which version is current, who made it so, and which versions a person rolled back.

`current` names the version that is served. The rollbacks are kept in `rollbacks.json` beside it, so that
they are not lost with `current`.
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
        by: what made it current: a build, or a person with `lightsage rollback`.
        at: when, UTC.
        before: the version that was current before.
    """

    model_config = ConfigDict(frozen=True, strict=False)

    version: str
    by: Literal["build", "rollback"] | None = None
    at: dt.datetime | None = None
    before: str | None = None


class Rollback(BaseModel):
    """Why a version is not made current again without a person's word.

    Args:
        at: when a person rolled back, UTC.
        to: the version that was made current instead.
        key: what the version was built from, apart from the version that it followed; a build with the same key is
            the same night. Empty if that is unknown.
        held: whether the version was never current, because it was being built while a person rolled back. Building it
            again may publish it.
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
        CorruptVersionError: it is damaged.
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
        by: what makes it current.
        before: the version that was current before.
    """
    current = Current(version=version, by=by, at=dt.datetime.now(dt.UTC), before=before)
    content = current.model_dump_json().encode()
    storage.write(CURRENT, content)
    return content


def read_rollbacks(storage: Storage) -> dict[str, Rollback]:
    """Return what was rolled back, by the name of the version.

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
    """Record rollbacks, and forget those of versions that have become current again.

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
    """Return the version that `current` names; None if it is missing or damaged.

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
        return named, None  # whoever opens it learns what is wrong with it
    raise problem


def find_rollback(storage: Storage, version: str | None, key: str) -> Rollback | None:
    """Return the rollback by which a person took a version back; see `Workspace.rollback_of`.

    Args:
        storage: the files of the workspace.
        version: the name of the version; None if it is not built yet.
        key: what the version is built from.
    """
    if (current := current_or_none(storage)) == version and version is not None:
        return None
    for name, entry in read_rollbacks(storage).items():
        if name != current and not entry.held and (name == version or (key and entry.key == key)):
            return entry
    return None


def hold(storage: Storage, version: str) -> RolledBackError:
    """Note that a version is not made current, because `current` was changed by hand; return the error that says so.

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
    """The version counts even if the rest was written by hand."""
    try:
        return Current.model_validate(fields)
    except ValidationError:
        return Current(version=str(fields["version"]))
