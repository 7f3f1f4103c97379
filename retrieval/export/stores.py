"""The stores that a version can be exported to, each with its writer."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Protocol

from retrieval.errors import ExportError
from retrieval.export.rows import Export

STORES = {
    "parquet": "retrieval.export.parquet_folder",
    "qdrant": "retrieval.export.qdrant",
    "pgvector": "retrieval.export.postgres",
    "milvus": "retrieval.export.milvus",
    "opensearch": "retrieval.export.opensearch_folder",
}
"""Name of a store → the module that writes it."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


class Writer(Protocol):
    """Writes an export to a store, whole or not at all; an earlier export under the same name stays until the end."""

    def __call__(self, export: Export, target: str, name: str) -> None:
        """Write an export.

        Args:
            export: what to write.
            target: a folder, a file or a URL.
            name: the alias, or what the names of tables begin with.

        Raises:
            ExportError: the target or the name cannot be used, or a package is missing.
            StoreFailedError: the store cannot be reached, or refuses.
        """


def write_to(store: str, export: Export, target: str, name: str) -> None:
    """Write an export to a store.

    Args:
        store: a key of `STORES`.
        export: what to write.
        target: a folder, a file or a URL.
        name: the alias, or what the names of tables begin with.

    Raises:
        ExportError: the target or the name cannot be used, or a package is missing.
        StoreFailedError: the store cannot be reached, or refuses.
    """
    if not _NAME.fullmatch(name):
        raise ExportError(f"--name {name}: expected a small letter, then small letters, digits and underscores")
    writer: Writer = import_module(STORES[store]).write
    writer(export, target, name)
