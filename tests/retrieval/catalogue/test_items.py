"""Wrong arrays that a catalogue refuses, and how a catalogue is read from a version's embeddings."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retrieval.catalogue.items import VECTOR_FILES, Catalogue, read_catalogue
from retrieval.errors import CatalogueError


def with_row(vectors: np.ndarray, row: int, value: float) -> np.ndarray:
    copy = np.array(vectors)
    copy[row] = value
    return copy


def test_a_vector_with_nan_names_its_item(catalogue: Catalogue) -> None:
    with pytest.raises(CatalogueError, match=r"item00007.*not finite"):
        replace(catalogue, query=with_row(catalogue.query, 7, np.nan))
    with pytest.raises(CatalogueError, match=f"item_unaveraged.*{catalogue.item_ids[catalogue.tail_rows[2]]}"):
        replace(catalogue, item_unaveraged=with_row(catalogue.item_unaveraged, 2, np.inf))


def test_an_unnormalised_vector_is_refused_beyond_one_thousandth(catalogue: Catalogue) -> None:
    replace(catalogue, item=np.asarray(catalogue.item * np.float32(1.0009)))
    with pytest.raises(CatalogueError, match=r"item00000.*norm 1\.002.*L2-normalise"):
        replace(catalogue, item=np.asarray(catalogue.item * np.float32(1.002)))


def test_ids_must_be_sorted_and_unique(catalogue: Catalogue) -> None:
    repeated = catalogue.item_ids.copy()
    repeated[5] = repeated[4]
    with pytest.raises(CatalogueError, match="'item00004' is there twice"):
        replace(catalogue, item_ids=repeated)
    with pytest.raises(CatalogueError, match="comes after"):
        replace(catalogue, item_ids=catalogue.item_ids[::-1].copy())


def test_arrays_of_a_wrong_shape_type_or_order_are_named(catalogue: Catalogue) -> None:
    with pytest.raises(CatalogueError, match=r"events has shape \(59,\), expected \(60,\)"):
        replace(catalogue, events=catalogue.events[1:])
    with pytest.raises(CatalogueError, match="item_unaveraged has shape"):
        replace(catalogue, tail_rows=catalogue.tail_rows[1:])
    with pytest.raises(CatalogueError, match="must be float32"):
        replace(catalogue, query=catalogue.query.astype(np.float64))
    with pytest.raises(CatalogueError, match="ascending"):
        replace(catalogue, tail_rows=catalogue.tail_rows[::-1])


def write_embeddings(folder: Path, catalogue: Catalogue) -> None:
    for name, file in VECTOR_FILES.items():
        np.save(folder / file, getattr(catalogue, name))
    np.save(folder / "prior.npy", 20 * catalogue.bias)
    pq.write_table(pa.table({"item_id": pa.array(catalogue.item_ids, pa.string())}), folder / "item_ids.parquet")


def test_nodes_and_items_are_aligned_by_id(catalogue: Catalogue, tmp_path: Path) -> None:
    write_embeddings(tmp_path, catalogue)
    nodes = pa.table({"item_id": ["item00003", "item00001"], "events": [7, 2], "popularity": [0.5, 4.0]})
    items = pa.table({"item_id": ["item00059", "item00001"], "title": ["last", "first"], "shade": ["x", "y"]})
    read = read_catalogue(tmp_path, nodes, items)
    assert read.events[:4].tolist() == [0, 2, 0, 7]
    assert read.popularity[:4].tolist() == [0.0, 4.0, 0.0, 0.5]
    assert read.attributes.column_names == ["item_id", "title"]
    titles = read.attributes["title"].to_pylist()
    assert (titles[1], titles[2], titles[59]) == ("first", None, "last")
    assert isinstance(read.item.base, np.memmap)


def test_a_damaged_embedding_file_is_named(catalogue: Catalogue, tmp_path: Path, world: SimpleNamespace) -> None:
    write_embeddings(tmp_path, catalogue)
    (tmp_path / "item.npy").write_bytes(b"nonsense")
    nodes = pa.table({"item_id": ["item00003"], "events": [7], "popularity": [0.5]})
    with pytest.raises(CatalogueError, match=r"item\.npy"):
        read_catalogue(tmp_path, nodes)
