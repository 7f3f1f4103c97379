"""What the writers of stores share: optional drivers, errors of one line, and collections that replace each other."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from retrieval.errors import ExportError


def driver(module: str, extra: str) -> Any:
    """Return the module of a store's driver.

    Args:
        module: the name of the module.
        extra: the extra of this product that installs it.

    Raises:
        ExportError: the module is not installed; the message says what to install.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ExportError(
            f"--to {extra} needs the package {error.name}: pip install 'lightsage-ads-retrieval[{extra}]'"
        ) from None


def first_line(error: BaseException) -> str:
    """Return what an error of a driver says, as one line without a password."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return without_password(lines[0] if lines else type(error).__name__)


def without_password(text: str) -> str:
    """Return a text in which the passwords of URLs are hidden.

    >>> without_password("postgresql://shop:secret@db/ads")
    'postgresql://shop:***@db/ads'
    """
    return re.sub(r"(://[^/\s:@]*):[^/\s@]*@", r"\1:***@", text)


@contextlib.contextmanager
def replaced_collections(name: str, version: str, earlier: list[str], delete: Callable[[str], object]) -> Iterator[str]:
    """Yield the name of a new collection; the block fills it and, as its last step, points the alias to it.

    After an error in the block, the new collection is deleted; otherwise the earlier ones are.

    Args:
        name: the alias.
        version: the version that is exported.
        earlier: the collections of earlier exports, even of killed ones; see `generations`.
        delete: deletes the collection of a given name.
    """
    new = generation(name, version)
    try:
        yield new
    except BaseException:
        with contextlib.suppress(Exception):
            delete(new)
        raise
    for collection in earlier:
        delete(collection)


def generation(name: str, version: str) -> str:
    """Return a new name for the collection of one export; the alias will point to this collection.

    Args:
        name: the alias.
        version: the version that is exported.

    >>> generation("lightsage", "20140928T235959-1f0c2a9b")[:-6]
    'lightsage_20140928t235959_1f0c2a9b_'
    """
    return f"{name}_{version.lower().replace('-', '_')}_{secrets.token_hex(3)}"


def generations(name: str, collections: list[str]) -> list[str]:
    """Return the collections that exports under a name have made.

    Args:
        name: the alias of the exports.
        collections: the names of all collections in a store.
    """
    pattern = re.compile(rf"{re.escape(name)}_\d{{8}}t\d{{6}}_[0-9a-f]{{8}}_[0-9a-f]{{6}}")
    return [collection for collection in collections if pattern.fullmatch(collection)]
