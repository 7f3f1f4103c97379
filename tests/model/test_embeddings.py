"""The embeddings folder: the contract of docs/artefacts.md, broken folders and old ones."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.config import ModelConfig
from model.embeddings import FORMAT_VERSION, Embeddings
from model.errors import ModelFormatError
from model.trained import Trained

FIXTURES = Path(__file__).parent / "fixtures"
ARRAYS = ("query", "item", "tail_rows", "item_unaveraged", "prior")
ROLES = ("query", "item", "tail_rows", "item_own", "prior")
FILES = ("meta.json", "item_ids.parquet", *(f"{role}.npy" for role in ROLES))


def counted() -> Embeddings:
    """Return three items with two numbers each that count up, like the committed fixture of format version 2."""
    return Embeddings(
        item_ids=pa.array(["a", "b", "ö"]),
        query=np.arange(6, dtype=np.float32).reshape(3, 2),
        item=np.arange(6, 12, dtype=np.float32).reshape(3, 2),
        tail_rows=np.array([0, 2], np.int64),
        item_unaveraged=np.arange(12, 16, dtype=np.float32).reshape(2, 2),
        prior=np.arange(16, 19, dtype=np.float32),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    counted().save(tmp_path / "embeddings")
    return tmp_path / "embeddings"


def assert_equal(loaded: Embeddings, expected: Embeddings) -> None:
    assert loaded.item_ids.equals(expected.item_ids)
    for name in ARRAYS:
        a, b = getattr(loaded, name), getattr(expected, name)
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype


def test_embeddings_come_back_as_they_were_and_memory_mapped(folder: Path) -> None:
    loaded = Embeddings.load(folder)
    assert_equal(loaded, counted())
    assert isinstance(loaded.query, np.memmap)
    assert loaded.item.flags.c_contiguous


def test_the_folder_holds_the_files_of_the_contract_readable_by_numpy_and_parquet_alone(folder: Path) -> None:
    assert sorted(p.name for p in folder.iterdir()) == sorted(FILES)
    assert json.loads((folder / "meta.json").read_text()) == {"format_version": 2, "rows": 3, "dim": 2}
    assert pq.read_table(folder / "item_ids.parquet").column_names == ["item_id"]
    assert np.load(folder / "item_own.npy", allow_pickle=False).dtype == np.float32


def test_rows_in_another_memory_order_are_written_contiguous(tmp_path: Path) -> None:
    turned = Embeddings(**{**counted().__dict__, "query": np.asfortranarray(counted().query)})
    turned.save(tmp_path)
    assert np.load(tmp_path / "query.npy").flags.c_contiguous
    assert_equal(Embeddings.load(tmp_path), counted())


def test_a_catalogue_without_a_tail_comes_back(tmp_path: Path) -> None:
    no_tail = {"tail_rows": np.zeros(0, np.int64), "item_unaveraged": np.zeros((0, 2), np.float32)}
    Embeddings(**{**counted().__dict__, **no_tail}).save(tmp_path)
    loaded = Embeddings.load(tmp_path)
    assert (loaded.tail_rows.shape, loaded.item_unaveraged.shape) == ((0,), (0, 2))


def test_the_embeddings_of_a_model_come_back(tmp_path: Path, known_model: tuple[Trained, ModelConfig]) -> None:
    known_model[0].embeddings.save(tmp_path)
    assert_equal(Embeddings.load(tmp_path), known_model[0].embeddings)


def test_a_folder_of_format_version_2_stays_readable() -> None:
    """Never rewrite the fixture: either it stays readable, or the format version rises and the fixture is refused."""
    assert_equal(Embeddings.load(FIXTURES / "embeddings_v2"), counted())


def test_a_folder_of_format_version_1_is_refused() -> None:
    with pytest.raises(ModelFormatError, match="format version 1, this code reads 2: embed again"):
        Embeddings.load(FIXTURES / "embeddings_v1")


def test_another_format_version_names_both(folder: Path) -> None:
    (folder / "meta.json").write_text('{"format_version": 99, "rows": 3, "dim": 2}')
    with pytest.raises(ModelFormatError, match=rf"format version 99, this code reads {FORMAT_VERSION}: embed again"):
        Embeddings.load(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelFormatError, match=rf"{name} can't be read .*embed again"):
        Embeddings.load(folder)


@pytest.mark.parametrize("content", [b"", b"garbage", b"[]"])
@pytest.mark.parametrize("name", FILES)
def test_a_corrupt_file_is_named(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(ModelFormatError, match=rf"{name} can't be read .*embed again"):
        Embeddings.load(folder)


def test_a_cut_off_matrix_is_named(folder: Path) -> None:
    (folder / "item.npy").write_bytes((folder / "item.npy").read_bytes()[:-4])
    with pytest.raises(ModelFormatError, match=r"item.npy can't be read"):
        Embeddings.load(folder)


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [("query", (2, 2), r"\(3, 2\)"), ("item", (3, 4), r"\(3, 2\)"), ("item_own", (3, 2), r"\(2, 2\)")],
)
def test_a_matrix_of_the_wrong_shape_is_named_with_both_shapes(
    folder: Path, name: str, shape: tuple[int, int], expected: str
) -> None:
    np.save(folder / f"{name}.npy", np.zeros(shape, np.float32))
    got = str(shape).replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(ModelFormatError, match=rf"{name}.npy has shape {got}, expected {expected}"):
        Embeddings.load(folder)


def test_fewer_ids_than_rows_are_refused(folder: Path) -> None:
    pq.write_table(pa.table({"item_id": ["a"]}), folder / "item_ids.parquet")
    with pytest.raises(ModelFormatError, match=r"item_ids.parquet has 1 rows, expected 3"):
        Embeddings.load(folder)
