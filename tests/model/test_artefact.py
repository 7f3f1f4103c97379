"""The model folder: it is read back as written, errors name broken files, and old folders are read or refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from model.artefact import FORMAT_VERSION, load_model, save_model
from model.config import ModelConfig
from model.errors import ModelFormatError
from model.trained import Trained

FIXTURES = Path(__file__).parent / "fixtures"
FILES = ("model.json", "transforms.json", "weights.safetensors")
Known = tuple[Trained, ModelConfig]


@pytest.fixture
def folder(tmp_path: Path, known_model: Known) -> Path:
    save_model(tmp_path / "model", *known_model)
    return tmp_path / "model"


def assert_equal(directory: Path, known_model: Known) -> None:
    trained, config = known_model
    artefact = load_model(directory)
    assert artefact.config == config
    assert artefact.record == trained.record
    assert artefact.features.vocabularies == trained.features.vocabularies
    assert artefact.features.embedding_dim == trained.features.embedding_dim
    np.testing.assert_array_equal(artefact.features.title_basis, trained.features.title_basis)
    np.testing.assert_array_equal(artefact.features.title_idf, trained.features.title_idf)
    weights, expected = artefact.network.state_dict(), trained.network.state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert artefact.network.dropout == config.dropout
    assert not artefact.network.training


def test_a_model_comes_back_as_it_was(folder: Path, known_model: Known) -> None:
    assert sorted(p.name for p in folder.iterdir()) == sorted(FILES)
    assert_equal(folder, known_model)


def test_a_folder_of_format_version_2_stays_readable(known_model: Known) -> None:
    """Never rewrite the fixture: either it stays readable, or the format version rises and the fixture is refused."""
    assert_equal(FIXTURES / "model_v2", known_model)


def test_a_folder_of_format_version_1_is_refused() -> None:
    with pytest.raises(ModelFormatError, match="format version 1, this code reads 2: train again"):
        load_model(FIXTURES / "model_v1")


def test_another_format_version_names_both(folder: Path) -> None:
    model = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**model, "format_version": 99}))
    with pytest.raises(ModelFormatError, match=rf"format version 99, this code reads {FORMAT_VERSION}: train again"):
        load_model(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelFormatError, match=rf"{name} can't be read .*train again"):
        load_model(folder)


@pytest.mark.parametrize("content", [b"", b"\x00garbage", b"[]", b"{}"])
@pytest.mark.parametrize("name", FILES)
def test_a_corrupt_file_is_named(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(ModelFormatError, match=rf"{name} can't be read .*train again"):
        load_model(folder)


def test_a_cut_off_weights_file_is_named(folder: Path) -> None:
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ModelFormatError, match=r"weights.safetensors can't be read"):
        load_model(folder)


def test_weights_of_another_shape_than_configured_are_refused(folder: Path) -> None:
    model = json.loads((folder / "model.json").read_text())
    model["config"]["dim"] = 6
    (folder / "model.json").write_text(json.dumps(model))
    with pytest.raises(ModelFormatError, match=r"(?s)weights.safetensors can't be read .*size mismatch"):
        load_model(folder)


def test_a_setting_that_this_code_does_not_know_is_named(folder: Path) -> None:
    model = json.loads((folder / "model.json").read_text())
    model["config"]["warp"] = 9
    (folder / "model.json").write_text(json.dumps(model))
    with pytest.raises(ModelFormatError, match=r"(?s)model.json can't be read .*warp"):
        load_model(folder)
