"""Tells paths in this host's file system from URIs of other storage."""

from urllib.parse import unquote, urlparse


def is_local(path: str) -> bool:
    """Return whether a path lies in this host's file system: a bare path or a `file:` URI."""
    return "://" not in path or path.startswith("file:")


def local_path(path: str) -> str:
    """Return a `file:` URI as a plain path, and a plain path as it is."""
    return unquote(urlparse(path).path) if path.startswith("file:") else path
