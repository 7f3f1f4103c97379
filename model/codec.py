"""Helpers that read the model and embeddings folders: they check the format version, and name the file in errors."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from model.errors import ModelFormatError


@contextmanager
def reading(path: Path, remedy: str) -> Iterator[None]:
    """Turn any exception raised while a file is read into a ModelFormatError that names the file and the remedy.

    Args:
        path: the file that is read
        remedy: what the user can do, for the message
    """
    try:
        yield
    except ModelFormatError:
        raise
    except Exception as error:
        raise ModelFormatError(f"{path} can't be read ({type(error).__name__}: {error}): {remedy}") from error


def read_versioned(path: Path, version: int, remedy: str) -> dict[str, Any]:
    """Return the JSON object of a file after checking its `format_version`.

    Args:
        path: the file
        version: the format version that this code reads
        remedy: what the user can do, for the message
    Raises:
        ModelFormatError: the file is missing, not JSON, or of another format version; the message says what is wrong.
    """
    with reading(path, remedy):
        value: dict[str, Any] = json.loads(path.read_text())
        actual = value["format_version"]
    if actual != version:
        raise ModelFormatError(f"{path} has format version {actual}, this code reads {version}: {remedy}")
    return value
