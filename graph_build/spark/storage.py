"""What is done to files outside Spark: the summary and the report, and clearing up, here or in object storage."""

import shutil
from pathlib import Path

from graph_build.paths import is_local, local_path


def join(root: str, *parts: str) -> str:
    """A path below `root`, which may be a URI."""
    return "/".join([root.rstrip("/"), *parts])


def write_text(path: str, text: str) -> None:
    """Writes a whole UTF-8 file; its folder is created where folders exist."""
    if is_local(path):
        target = Path(local_path(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = target.with_name(f".{target.name}.part")
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(target)
        return
    import fsspec

    with fsspec.open(path, "w", encoding="utf-8") as file:
        file.write(text)


def read_text(path: str) -> str | None:
    """A whole UTF-8 file; None when it is not there."""
    if is_local(path):
        target = Path(local_path(path))
        return target.read_text(encoding="utf-8") if target.exists() else None
    import fsspec

    files, name = fsspec.core.url_to_fs(path)
    return files.cat_file(name).decode() if files.exists(name) else None


def remove_folder(path: str) -> None:
    """Removes a folder with all that is in it; one that is not there is fine."""
    if is_local(path):
        shutil.rmtree(local_path(path), ignore_errors=True)
        return
    import fsspec

    files, folder = fsspec.core.url_to_fs(path)
    if files.exists(folder):
        files.rm(folder, recursive=True)
