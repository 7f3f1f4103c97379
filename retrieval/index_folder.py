"""The index folder: everything that a server needs of a version, written and read back. See docs/artefacts.md."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

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
    from retrieval.ann.tuning import Progress

_log = logging.getLogger(__name__)
FORMAT = 2
_FILES = VECTOR_FILES | {"bias": "bias.npy"}
_EDGE_ARRAYS = ("indptr", "dst", "type", "weight", "type_names")


@dataclass(frozen=True, eq=False)
class Index:
    """An index folder in memory; the matrices stay memory-mapped. `ads` is None where every item is advertised."""

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
    catalogue: Catalogue,
    edges: Edges,
    ads: pa.Table | None,
    *,
    as_of: datetime,
    config: RetrievalConfig | None = None,
    sessions: SessionEncoder | None = None,
    prerank: Reranker | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the index folder of a version and return what its meta.json says.

    The approximate index covers the items with an ad that ends after `as_of`, or every item without an ads table.
    `sessions` makes one query of several items; without it they are asked for by their weighted mean.
    `prerank` puts in order what is found.

    Raises:
        CatalogueError: edges or ads do not fit the catalogue.
    """
    from retrieval.ann.tuning import build

    config = config or RetrievalConfig()
    if edges.n_rows != catalogue.n_rows:
        raise CatalogueError(f"edges cover {edges.n_rows} rows, the catalogue has {catalogue.n_rows}")
    as_of = as_of.replace(tzinfo=UTC) if as_of.tzinfo is None else as_of.astimezone(UTC)
    all_rows = np.arange(catalogue.n_rows, dtype=np.int64)
    advertised = None if ads is None else Ads.from_table(ads, catalogue.row_of)
    rows = all_rows if advertised is None else advertised.items_ending_after(microseconds(as_of))
    built, tried = build(
        catalogue.item, catalogue.query, rows, config, progress, bias=catalogue.bias, events=catalogue.events
    )

    folder.mkdir(parents=True, exist_ok=True)
    built.write(folder / "vectors.faiss")
    np.save(folder / "indexed_rows.npy", rows)
    for name, file in _FILES.items():
        np.save(folder / file, np.ascontiguousarray(getattr(catalogue, name)))
    arrays: dict[str, NDArray[Any]] = {name: getattr(edges, name) for name in _EDGE_ARRAYS[:-1]}
    np.savez(
        folder / "edges.npz",
        allow_pickle=False,
        type_names=np.array(edges.type_names, dtype=np.str_),
        **arrays,
    )
    pq.write_table(_items(catalogue), folder / "items.parquet")
    if ads is not None:
        pq.write_table(conform(ads), folder / "ads.parquet")
    if sessions is not None:
        sessions.write(folder)
    if prerank is not None:
        prerank.write(folder)
    meta = {
        "format": FORMAT,
        "rows": catalogue.n_rows,
        "dim": catalogue.dim,
        "as_of": as_of.isoformat(),
        "kind": built.kind,
        "parameters": built.parameters,
        "indexed": len(rows),
        "recall_at_100": built.recall,
        "tried": [asdict(tuned) for tuned in tried],
        "direct_weight": edges.direct_weight,
        "revisit_weight": edges.revisit_weight,
        "has_ads": ads is not None,
        "session_items": None if sessions is None else sessions.length,
        "prerank": None if prerank is None else prerank.weights,
        "ads": None if advertised is None else _ads_summary(advertised),
        "options": config.model_dump(),
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
    return meta


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
        sessions = SessionEncoder.read(folder, length) if length else None
        prerank = Reranker.read(folder) if meta.get("prerank") else None
    except IndexFolderError:
        raise
    except CatalogueError as error:
        raise IndexFolderError(f"{folder}: {error}") from error
    for name, got in (("rows", catalogue.n_rows), ("dim", catalogue.dim), ("indexed", len(rows))):
        if got != meta[name]:
            raise IndexFolderError(
                f"{folder}: meta.json says {name} {meta[name]}, the files hold {got}; build it again"
            )
    if edges.n_rows != catalogue.n_rows:
        raise IndexFolderError(f"{folder / 'edges.npz'}: covers {edges.n_rows} rows, expected {catalogue.n_rows}")
    if len(rows) and not (rows[0] >= 0 and rows[-1] < catalogue.n_rows and np.all(np.diff(rows) > 0)):
        raise IndexFolderError(f"{folder / 'indexed_rows.npy'}: must be ascending rows below {catalogue.n_rows}")
    parts = (meta["kind"], meta["parameters"], meta["recall_at_100"])
    ann = faiss_index.read(folder / "vectors.faiss", rows, *parts)
    if sessions is not None and sessions.inputs.shape != (catalogue.n_rows, catalogue.dim):
        raise IndexFolderError(
            f"{folder / INPUTS}: is {sessions.inputs.shape}, expected {(catalogue.n_rows, catalogue.dim)}"
        )
    if prerank is not None and any(len(counter.item_of) != catalogue.n_rows for counter in prerank.counters):
        raise IndexFolderError(f"{folder / COUNTERS}: covers another catalogue; build the index again")
    return Index(catalogue, edges, ads, ann, datetime.fromisoformat(meta["as_of"]), meta, sessions, prerank)


def _items(catalogue: Catalogue) -> pa.Table:
    own = {"item_id": pa.array(catalogue.item_ids, pa.string())}
    own |= {"events": pa.array(catalogue.events), "popularity": pa.array(catalogue.popularity)}
    shown = {name: catalogue.attributes[name] for name in catalogue.attributes.column_names if name not in own}
    return pa.table(own | shown)


def _ads_summary(ads: Ads) -> dict[str, Any]:
    return {"used": len(ads), "unknown_items": ads.unknown_items, "by_status": ads.by_status}


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
    needed = ("rows", "dim", "as_of", "kind", "parameters", "indexed", "recall_at_100", "direct_weight", "has_ads")
    missing = [name for name in needed if name not in meta]
    if missing:
        raise IndexFolderError(f"{path}: {', '.join(missing)} missing; build the index again")
    return dict(meta)


def _read_catalogue(folder: Path) -> Catalogue:
    items = _read_table(folder / "items.parquet")
    arrays = {name: load_array(folder / file) for name, file in _FILES.items()}
    return Catalogue(
        item_ids=np.array(items["item_id"].to_pylist(), dtype=object),
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
    except Exception as error:  # a damaged zip surfaces as any of a dozen errors
        raise IndexFolderError(f"{path}: not readable as edges ({error}); build the index again") from error
    return Edges(indptr, dst, kind, weight, tuple(names.tolist()), direct_weight, revisit_weight)
