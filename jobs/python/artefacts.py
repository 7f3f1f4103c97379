"""Reads the embeddings and the item graph of a version as numpy arrays, pyarrow tables, and PyG `Data`."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jobs.errors import InputNotFoundError
from jobs.python.arguments import Place, as_workspace

if TYPE_CHECKING:
    import pyarrow as pa

    from model.embeddings import Embeddings
    from model.graph import ItemGraph


@dataclass(frozen=True)
class VersionGraph:
    """The item graph of a version; each table is read when it is first used.

    Args:
        folder: the folder `graph` of the version (docs/artefacts.md describes its tables).
        part: "full" = the graph of all sessions, "fit" = the graph without the hold-out.
    """

    folder: Path
    part: Literal["full", "fit"] = "full"

    @cached_property
    def nodes(self) -> "pa.Table":
        """One row per item, sorted by item_id: item_id, events, popularity, is_tail, …"""
        return self._read(f"{self.part}/nodes").sort_by("item_id")

    @cached_property
    def edges(self) -> "pa.Table":
        """Directed edges: src, dst, edge_type, weight."""
        return self._read(f"{self.part}/edges")

    @cached_property
    def sessions(self) -> "pa.Table":
        """Sessions: session, start, kind, items, times, …, held."""
        return self._read("sessions")

    @cached_property
    def items(self) -> "pa.Table | None":
        """The checked catalogue; None if the version was built without one."""
        return self._read("tables/items") if (self.folder / "tables" / "items").exists() else None

    @cached_property
    def ads(self) -> "pa.Table | None":
        """The checked ads; None if the version was built without them."""
        return self._read("tables/ads") if (self.folder / "tables" / "ads").exists() else None

    @cached_property
    def arrays(self) -> "ItemGraph":
        """The graph as numpy arrays, in which item i is row i of `nodes`."""
        from model.graph import load_graph

        return load_graph(self.folder, self.part, self.folder / "tables" / "items")

    def to_pyg(self) -> Any:
        """Return the graph as `torch_geometric.data.Data`.

        Its tensors are edge_index (2, E), edge_type (E,), whose values are positions in `edge_types`, edge_weight (E,),
        events (N,) and is_tail (N,). It also has the number num_nodes, and the lists item_ids (N) and edge_types.
        """
        import torch
        from torch_geometric.data import Data

        from model.graph import EDGE_TYPES

        graph = self.arrays
        return Data(
            edge_index=torch.stack([torch.from_numpy(side).long() for side in (graph.src, graph.dst)]),
            edge_type=torch.from_numpy(graph.edge_type).long(),
            edge_weight=torch.from_numpy(graph.weight),
            events=torch.from_numpy(graph.events),
            is_tail=torch.from_numpy(graph.is_tail),
            num_nodes=graph.num_items,
            item_ids=graph.item_ids.to_pylist(),
            edge_types=list(EDGE_TYPES),
        )

    def _read(self, name: str) -> "pa.Table":
        import pyarrow.parquet as pq

        return pq.read_table(self.folder / name)


def read_embeddings(workspace: Place, version: str | None = None) -> "Embeddings":
    """Return the vectors of a version's items, memory-mapped.

    Args:
        workspace: where the version is stored.
        version: the version; None = the published one.

    Returns:
        An object with item_ids, a pyarrow array of N strings, and numpy matrices with a row for each item, such as
        query (the item's vector when it is viewed) and item (its vector as a candidate).
    """
    from model.embeddings import Embeddings

    opened = as_workspace(workspace).open(version, parts=("embeddings",))
    return Embeddings.load(opened.path / "embeddings")


def read_graph(workspace: Place, version: str | None = None, *, part: Literal["full", "fit"] = "full") -> VersionGraph:
    """Return the item graph of a version.

    Args:
        workspace: where the version is stored.
        version: the version; None = the published one.
        part: "full" = the graph of all sessions, "fit" = the graph without the hold-out.

    Raises:
        InputNotFoundError: there is no such part.
    """
    if part not in ("full", "fit"):
        raise InputNotFoundError(f'part must be "full" or "fit", got {part!r}')
    return VersionGraph(as_workspace(workspace).open(version, parts=("graph",)).path / "graph", part)
