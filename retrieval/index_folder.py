"""The index folder: writes and reads everything that a server needs to serve a version. See docs/artefacts.md."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from retrieval.arrays import Rows, python_values
from retrieval.catalogue.ads import Ads
from retrieval.catalogue.ads_table import conform
from retrieval.catalogue.edges import Edges
from retrieval.catalogue.items import VECTOR_FILES, Catalogue, load_array
from retrieval.config import RetrievalConfig
from retrieval.errors import CatalogueError, IndexFolderError
from retrieval.ranking.reranker import COUNTERS, Reranker
from retrieval.ranking.session_encoder import INPUTS, SessionEncoder
from retrieval.times import microseconds

if TYPE_CHECKING:
    from retrieval.ann.faiss_index import Ann
    from retrieval.ann.tuning import Progress, Tuned

FORMAT = 2
_FILES = VECTOR_FILES | {"bias": "bias.npy"}
_EDGE_ARRAYS = ("indptr", "dst", "type", "weight", "type_names")
_REQUIRED_META = ("rows", "dim", "as_of", "kind", "parameters", "indexed", "recall_at_100", "direct_weight", "has_ads")


@dataclass(frozen=True, eq=False)
class IndexContents:
    """What an index folder is built from.

    catalogue, edges: the items and the edges among them. ads: the ads table, or None if every item is advertised.
    as_of: the time of the last event that the version knows; a time without a zone is in UTC. session_encoder: turns
    several items into one query vector; without an encoder, the query vector is their weighted mean. reranker:
    reorders what retrieval found.

    Raises:
        CatalogueError: the edges do not fit the catalogue.
    """

    catalogue: Catalogue
    edges: Edges
    ads: pa.Table | None
    as_of: datetime
    session_encoder: SessionEncoder | None = None
    reranker: Reranker | None = None

    def __post_init__(self) -> None:
        if self.edges.n_rows != self.catalogue.n_rows:
            raise CatalogueError(f"edges cover {self.edges.n_rows} rows, the catalogue has {self.catalogue.n_rows}")


@dataclass(frozen=True, eq=False)
class Index:
    """An index folder in memory; the matrices stay memory-mapped. `ads` is None if every item is advertised."""

    catalogue: Catalogue
    edges: Edges
    ads: Ads | None
    ann: Ann
    as_of: datetime
    meta: dict[str, Any]
    session_encoder: SessionEncoder | None = None
    reranker: Reranker | None = None


def build_index(
    folder: Path,
    contents: IndexContents,
    config: RetrievalConfig | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the index folder of a version.

    The approximate index covers the items with an ad that ends after the as-of time. Without an ads table, it covers
    every item.

    Args:
        folder: where to write; created if it does not exist.
        contents: what to write.
        config: how the approximate index is built; None = the defaults.
        progress: called with a message and the share that is done, 0 to 1.

    Returns:
        The contents of meta.json.

    Raises:
        CatalogueError: the ads do not fit their schema.
    """
    from retrieval.ann.tuning import build

    config = config or RetrievalConfig()
    catalogue, as_of = contents.catalogue, _in_utc(contents.as_of)
    ads = None if contents.ads is None else Ads.from_table(contents.ads, catalogue.row_of)
    all_rows = np.arange(catalogue.n_rows, dtype=np.int64)
    rows = all_rows if ads is None else ads.items_ending_after(microseconds(as_of))
    ann, tried = build(
        catalogue.item, catalogue.query, rows, config, progress, bias=catalogue.bias, events=catalogue.events
    )
    _write_files(folder, contents, ann)
    meta = _meta(contents, as_of, config, ann, tried) | {"ads": None if ads is None else _ads_summary(ads)}
    meta["options"] = config.model_dump()
    (folder / "meta.json").write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
    return meta


def _in_utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _write_files(folder: Path, contents: IndexContents, ann: Ann) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    ann.write(folder / "vectors.faiss")
    np.save(folder / "indexed_rows.npy", ann.rows)
    for name, file in _FILES.items():
        np.save(folder / file, np.ascontiguousarray(getattr(contents.catalogue, name)))
    edges = contents.edges
    arrays: dict[str, NDArray[Any]] = {name: getattr(edges, name) for name in _EDGE_ARRAYS[:-1]}
    np.savez(folder / "edges.npz", allow_pickle=False, type_names=np.array(edges.type_names, dtype=np.str_), **arrays)
    pq.write_table(_items(contents.catalogue), folder / "items.parquet")
    if contents.ads is not None:
        pq.write_table(conform(contents.ads), folder / "ads.parquet")
    if contents.session_encoder is not None:
        contents.session_encoder.write(folder)
    if contents.reranker is not None:
        contents.reranker.write(folder)


def _items(catalogue: Catalogue) -> pa.Table:
    columns = {
        "item_id": pa.array(catalogue.item_ids, pa.string()),
        "events": pa.array(catalogue.events),
        "popularity": pa.array(catalogue.popularity),
    }
    attributes = catalogue.attributes
    return pa.table(columns | {name: attributes[name] for name in attributes.column_names if name not in columns})


def _meta(
    contents: IndexContents, as_of: datetime, config: RetrievalConfig, ann: Ann, tried: list[Tuned]
) -> dict[str, Any]:
    encoder, reranker = contents.session_encoder, contents.reranker
    return {
        "format": FORMAT,
        "rows": contents.catalogue.n_rows,
        "dim": contents.catalogue.dim,
        "as_of": as_of.isoformat(),
        "kind": ann.kind,
        "parameters": ann.parameters,
        "indexed": len(ann.rows),
        "recall_at_100": ann.recall,
        "tried": [asdict(tuned) for tuned in tried],
        "direct_weight": contents.edges.direct_weight,
        "revisit_weight": contents.edges.revisit_weight,
        "has_ads": contents.ads is not None,
        "session_items": None if encoder is None else encoder.length,
        "prerank": None if reranker is None else reranker.weights,
    }


def _ads_summary(ads: Ads) -> dict[str, Any]:
    return {"used": len(ads), "unknown_items": ads.unknown_items, "by_status": ads.by_status}


def read_index(folder: Path) -> Index:
    """Read an index folder.

    Raises:
        IndexFolderError: a file is missing, damaged or of another format version; the message names it.
    """
    from retrieval.ann import faiss_index

    meta = _read_meta(folder / "meta.json")
    try:
        catalogue = _read_catalogue(folder)
        rows = np.asarray(load_array(folder / "indexed_rows.npy"))
        edges = _read_edges(folder / "edges.npz", meta["direct_weight"], meta.get("revisit_weight", 0.0))
        ads = Ads.from_table(_read_table(folder / "ads.parquet"), catalogue.row_of) if meta["has_ads"] else None
        length = meta.get("session_items")
        encoder = SessionEncoder.read(folder, length) if length else None
        reranker = Reranker.read(folder) if meta.get("prerank") else None
    except IndexFolderError:
        raise
    except CatalogueError as error:
        raise IndexFolderError(f"{folder}: {error}") from error
    _check_shapes(folder, meta, catalogue, edges, rows)
    parts = (meta["kind"], meta["parameters"], meta["recall_at_100"])
    ann = faiss_index.read(folder / "vectors.faiss", rows, *parts)
    if encoder is not None and encoder.inputs.shape != (catalogue.n_rows, catalogue.dim):
        raise IndexFolderError(
            f"{folder / INPUTS}: is {encoder.inputs.shape}, expected {(catalogue.n_rows, catalogue.dim)}"
        )
    if reranker is not None and any(len(counter.item_of) != catalogue.n_rows for counter in reranker.counters):
        raise IndexFolderError(f"{folder / COUNTERS}: covers another catalogue; build the index again")
    return Index(catalogue, edges, ads, ann, datetime.fromisoformat(meta["as_of"]), meta, encoder, reranker)


def _check_shapes(folder: Path, meta: dict[str, Any], catalogue: Catalogue, edges: Edges, indexed: Rows) -> None:
    for name, got in (("rows", catalogue.n_rows), ("dim", catalogue.dim), ("indexed", len(indexed))):
        if got != meta[name]:
            raise IndexFolderError(
                f"{folder}: meta.json says {name} {meta[name]}, the files hold {got}; build the index again"
            )
    if edges.n_rows != catalogue.n_rows:
        raise IndexFolderError(f"{folder / 'edges.npz'}: covers {edges.n_rows} rows, expected {catalogue.n_rows}")
    ascending = bool(np.all(np.diff(indexed) > 0))
    if len(indexed) and not (indexed[0] >= 0 and indexed[-1] < catalogue.n_rows and ascending):
        raise IndexFolderError(f"{folder / 'indexed_rows.npy'}: must be ascending rows below {catalogue.n_rows}")


def _read_meta(path: Path) -> dict[str, Any]:
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
        version = meta["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IndexFolderError(f"{path}: not an index's meta.json ({error}); build the index again") from error
    if version != FORMAT:
        raise IndexFolderError(
            f"{path}: format version {version}, this code reads {FORMAT}; build the index again or serve it with "
            "the code that built it"
        )
    missing = [name for name in _REQUIRED_META if name not in meta]
    if missing:
        raise IndexFolderError(f"{path}: {', '.join(missing)} missing; build the index again")
    return dict(meta)


def _read_catalogue(folder: Path) -> Catalogue:
    items = _read_table(folder / "items.parquet")
    arrays = {name: load_array(folder / file) for name, file in _FILES.items()}
    return Catalogue(
        item_ids=np.array(python_values(items["item_id"]), dtype=object),
        query=arrays["query"],
        item=arrays["item"],
        tail_rows=np.asarray(arrays["tail_rows"]),
        item_unaveraged=arrays["item_unaveraged"],
        bias=arrays["bias"],
        events=items["events"].to_numpy(),
        popularity=items["popularity"].to_numpy(),
        attributes=items.drop_columns(["events", "popularity"]),
    )


def _read_table(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise IndexFolderError(f"{path}: not readable as parquet ({error}); build the index again") from error


def _read_edges(path: Path, direct_weight: float, revisit_weight: float) -> Edges:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            indptr, dst, kind, weight, names = (arrays[name] for name in _EDGE_ARRAYS)
    except Exception as error:  # a damaged zip file may raise any of a dozen errors
        raise IndexFolderError(f"{path}: not readable as edges ({error}); build the index again") from error
    return Edges(indptr, dst, kind, weight, tuple(names.tolist()), direct_weight, revisit_weight)
