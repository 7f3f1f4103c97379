"""What the two codecs share: a failed read names its file, and the format version is checked before anything else."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from model.errors import ModelFormatError


@contextmanager
def reading(path: Path, remedy: str) -> Iterator[None]:
    """Turn whatever a file's library raises into a ModelFormatError that names the file and what to do."""
    try:
        yield
    except ModelFormatError:
        raise
    except Exception as error:
        raise ModelFormatError(f"{path} can't be read ({type(error).__name__}: {error}): {remedy}") from error


def read_versioned(path: Path, version: int, remedy: str) -> dict[str, Any]:
    """The JSON object in `path`, whose `format_version` must be `version`.

    Raises:
        ModelFormatError: the file is missing, not JSON, or of another format version (both are named).
    """
    with reading(path, remedy):
        value: dict[str, Any] = json.loads(path.read_text())
        found = value["format_version"]
    if found != version:
        raise ModelFormatError(f"{path} has format version {found}, this code reads {version}: {remedy}")
    return value
