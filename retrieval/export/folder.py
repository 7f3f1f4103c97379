"""Writes a folder beside its final path, and moves it to that path once it is complete."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from retrieval.errors import ExportError

DESCRIPTION = "export.json"
"""The file that describes an export, and that marks a folder as one."""


@contextlib.contextmanager
def replaced_folder(target: str, description: dict[str, Any]) -> Iterator[Path]:
    """Yield an empty folder to write; at the end of the block it replaces the target, or is deleted after an error.

    Args:
        target: the path of the folder; it must be absent, empty, or an earlier export.
        description: the content of `export.json`.

    Raises:
        ExportError: the target is something else, or cannot be written.
    """
    path = Path(target)
    if path.exists() and not path.is_dir():
        raise ExportError(f"{target}: is a file; name a folder")
    if path.is_dir() and any(path.iterdir()) and not (path / DESCRIPTION).exists():
        raise ExportError(f"{target}: holds other files, and no earlier export; name a new folder")
    token = secrets.token_hex(4)
    scratch = path.with_name(f".{path.name}-{token}.part")
    try:
        scratch.mkdir(parents=True)
        yield scratch
        (scratch / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
        if path.exists():
            earlier = path.with_name(f".{path.name}-{token}.old")
            path.rename(earlier)
            scratch.rename(path)
            shutil.rmtree(earlier)
        else:
            scratch.rename(path)
    except OSError as error:
        raise ExportError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
