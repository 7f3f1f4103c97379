"""Small files beside the tables: the summary and the report, to a local folder or to object storage."""

from pathlib import Path

from graph_build.contract import is_local, local_path


def join(root: str, *parts: str) -> str:
    """A path below `root`, which may be a URI."""
    return "/".join([root.rstrip("/"), *parts])


def write_text(path: str, text: str) -> None:
    """Writes a whole UTF-8 file; its folder is created where folders exist."""
    if is_local(path):
        target = Path(local_path(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        return
    import fsspec

    with fsspec.open(path, "w", encoding="utf-8") as file:
        file.write(text)
