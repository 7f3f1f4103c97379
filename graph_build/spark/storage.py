"""Reads, writes and removes files outside Spark, on this host or in object storage."""

import glob
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from graph_build.errors import GraphInputError
from graph_build.paths import is_local, local_path


def join(root: str, *parts: str) -> str:
    """Return a path below `root`.

    Args:
        root: a local folder or a URI.
        parts: names of folders and of the file below it.
    """
    return "/".join([root.rstrip("/"), *parts])


def write_text(path: str, text: str) -> None:
    """Write a whole UTF-8 file; on this host, its folder is created too.

    Args:
        path: a local path or a URI.
        text: the content.
    """
    if is_local(path):
        target = Path(local_path(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = target.with_name(f".{target.name}.part")
        with scratch.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # else a crash of the host could leave an empty file of this name
        scratch.replace(target)
        return
    _file_system(path)
    import fsspec

    with fsspec.open(path, "w", encoding="utf-8") as file:
        file.write(text)


def read_text(path: str) -> str | None:
    """Return the content of a UTF-8 file; None when it does not exist."""
    if is_local(path):
        target = Path(local_path(path))
        return target.read_text(encoding="utf-8") if target.exists() else None
    files, name = _file_system(path)
    return files.cat_file(name).decode() if files.exists(name) else None


def exists(path: str) -> bool:
    """Return whether there is a file or folder of this name."""
    if is_local(path):
        return Path(local_path(path)).exists()
    files, name = _file_system(path)
    return bool(files.exists(name))


def list_folder(path: str) -> list[str]:
    """Return the sorted names in a folder; none if there is no such folder."""
    if is_local(path):
        folder = Path(local_path(path))
        return sorted(os.listdir(folder)) if folder.is_dir() else []
    files, name = _file_system(path, use_listings_cache=False)
    if not files.isdir(name):
        return []
    return sorted(entry.rstrip("/").rpartition("/")[2] for entry in files.ls(name, detail=False))


def remove_folder(path: str) -> None:
    """Remove a folder with all its content, if it exists."""
    if is_local(path):
        shutil.rmtree(local_path(path), ignore_errors=True)
        return
    files, folder = _file_system(path)
    if files.exists(folder):
        files.rm(folder, recursive=True)


def open_file(path: str) -> IO[bytes]:
    """Open a file to read; the caller closes it.

    Args:
        path: a local path or a URI.
    """
    if is_local(path):
        return open(local_path(path), "rb")
    files, name = _file_system(path)
    opened: IO[bytes] = files.open(name, "rb")
    return opened


def size_of(path: str) -> int:
    """Return the size of a file in bytes."""
    if is_local(path):
        return Path(local_path(path)).stat().st_size
    files, name = _file_system(path)
    return int(files.size(name))


def matches(pattern: str) -> list[str]:
    """Return the files and folders that a pattern matches, in order.

    Args:
        pattern: a local path or a URI with `*`, `?`, `[…]` or `**`.
    """
    if is_local(pattern):
        return sorted(glob.glob(local_path(pattern), recursive=True), key=_in_order)
    import fsspec

    files, name = fsspec.core.url_to_fs(pattern)
    return sorted((files.unstrip_protocol(path) for path in files.glob(name)), key=_in_order)


def names_below(root: str) -> list[str] | None:
    """Return the paths of all files below a folder, relative to it, in the order of their names.

    Numbers in names are compared as numbers: `part-9` comes before `part-10`. Links to local folders are followed,
    except those to a folder above.

    The result is [""] if `root` is a file, and None if there is neither a file nor a folder.

    Args:
        root: a local path or a URI.
    """
    if is_local(root):
        path = Path(local_path(root))
        if not path.is_dir():
            return [""] if path.is_file() else None
        return sorted((str(file.relative_to(path)) for file in _walk(path) if file.is_file()), key=_in_order)
    files, folder = _file_system(root)
    if files.isfile(folder):
        return [""]
    if not files.exists(folder):
        return None
    return sorted((name.removeprefix(folder.rstrip("/") + "/") for name in files.find(folder)), key=_in_order)


def _in_order(path: str) -> tuple[list[list[str | int]], str]:
    """Return the key by which paths are sorted: folder by folder, and numbers in names as numbers."""
    folders = [re.split("([0-9]+)", name) for name in path.split("/")]
    return [[int(part) if n % 2 else part for n, part in enumerate(parts)] for parts in folders], path


def is_store_error(error: BaseException | None) -> bool:
    """Return whether an error, or one that caused it, was raised by the library of an object store."""
    while error is not None:
        if type(error).__module__.partition(".")[0] in ("botocore", "aiobotocore", "aiohttp", "s3fs"):
            return True
        error = error.__cause__
    return False


def _file_system(path: str, **options: Any) -> tuple[Any, str]:
    """Return the file system of a URI, and the path in it."""
    import fsspec

    try:
        files, name = fsspec.core.url_to_fs(path, **options)
    except (ImportError, ValueError) as error:
        text = " ".join(str(error).split())
        raise GraphInputError(
            f"{path} cannot be used: {text}; install the package of its scheme (for S3: s3fs)"
        ) from error
    return files, name


def _walk(folder: Path) -> Iterator[Path]:
    for current, folders, names in os.walk(folder, followlinks=True):
        above = [Path(current).resolve(), *Path(current).resolve().parents]
        folders[:] = [name for name in folders if (Path(current) / name).resolve() not in above]
        yield from (Path(current) / name for name in names)
