"""The names of this program, its documents and files in hints, as the user can type them in the current folder."""

import os
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

NAME = "lightsage"
_SOURCE = Path(__file__).resolve().parents[2]


def program() -> str:
    """Return the command that starts this program: `lightsage` if it is on the path, else the running script's path."""
    script = Path(sys.argv[0] if sys.argv else "")
    if script.name != NAME:  # another program, such as a test, called this code
        return NAME
    on_path = shutil.which(NAME)
    if on_path is not None and Path(on_path).resolve() == script.resolve():
        return NAME
    return shortest(script)


def document(page: str) -> str:
    """Return the path of a page of the documentation; without the source, return `page` itself.

    Args:
        page: the path of the page in the source, such as `docs/glossary.md`.
    """
    path = _SOURCE / page
    return shortest(path) if path.exists() else page


def shortest(path: Path) -> str:
    """Return a path relative to the current folder, or the absolute path if it is shorter."""
    absolute = os.path.abspath(path)
    try:
        relative = os.path.relpath(absolute)
    except ValueError:  # another drive
        return absolute
    return min(relative, absolute, key=len)


def version_line() -> str:
    """Return the name and version of the installed package, and the Python that runs it."""
    try:
        number = version("lightsage-ads-retrieval")
    except PackageNotFoundError:  # run from the source, without an installation
        number = "(not installed)"
    return f"{NAME} {number}, Python {sys.version.split()[0]}"
