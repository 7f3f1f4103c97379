"""How hints name this program, its documents and files, so that they can be copied from where the user stands."""

import os
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

NAME = "lightsage"
_SOURCE = Path(__file__).resolve().parents[2]


def program() -> str:
    """Return how this program is called: `lightsage` if that is on the path, else the path of the running script."""
    script = Path(sys.argv[0] if sys.argv else "")
    if script.name != NAME:  # called from another program, such as a test
        return NAME
    on_path = shutil.which(NAME)
    if on_path is not None and Path(on_path).resolve() == script.resolve():
        return NAME
    return shortest(script)


def document(page: str) -> str:
    """Return the path of a page of the documentation or, if only the packages are installed, its name.

    Args:
        page: its path in the source, such as `docs/glossary.md`.
    """
    path = _SOURCE / page
    return shortest(path) if path.exists() else page


def shortest(path: Path) -> str:
    """Return a path relative to the current folder, or the absolute path if that is shorter."""
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
