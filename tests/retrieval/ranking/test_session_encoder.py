"""The served session encoder gives the vectors of the trained one for all sizes; damaged networks are refused."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from model.config import SessionConfig
from model.sessions.encoder import SessionEncoder as Trained
from model.sessions.export import to_onnx
from retrieval.errors import CatalogueError, IndexFolderError
from retrieval.queries import Queries
from retrieval.ranking.session_encoder import INPUTS, NETWORK, SessionEncoder

pytest.importorskip("onnxruntime")
N, DIM = 30, 8


@cache
def encoders(positions: tuple[int, ...]) -> tuple[Trained, SessionEncoder]:
    torch.manual_seed(0)
    trained = Trained(DIM, SessionConfig(length=6, heads=2, positions=positions)).eval()
    inputs = np.random.default_rng(0).standard_normal((N, DIM)).astype(np.float32)
    return trained, SessionEncoder(to_onnx(trained), inputs, 6)


def queries(*lengths: int) -> Queries:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Queries(np.random.default_rng(1).integers(0, N, offsets[-1]), offsets)


@pytest.mark.parametrize(
    "positions", [(0, 1), pytest.param((3, 1), marks=pytest.mark.slow), pytest.param((1,), marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("lengths", [(1,), (6,), (2, 9, 1, 6, 30), (1,) * 5])
def test_the_served_encoder_equals_the_trained_one(positions: tuple[int, ...], lengths: tuple[int, ...]) -> None:
    trained, served = encoders(positions)
    sessions = queries(*lengths)
    vectors = served.vectors(sessions)
    for n in range(len(sessions)):
        rows = sessions.rows[sessions.offsets[n] : sessions.offsets[n + 1]][-6:]
        with torch.no_grad():
            expected = trained(torch.from_numpy(served.inputs[rows])[None], torch.ones(1, len(rows), dtype=torch.bool))
        np.testing.assert_allclose(vectors[n], expected[0].numpy(), atol=1e-5)


def test_the_batch_size_does_not_change_the_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    _, served = encoders((0, 1))
    sessions = queries(*(1 + n % 7 for n in range(50)))
    in_one_batch = served.vectors(sessions)
    monkeypatch.setattr("retrieval.ranking.session_encoder._BATCH", 7)
    np.testing.assert_allclose(served.vectors(sessions), in_one_batch, atol=1e-6)


@pytest.mark.parametrize("positions", [(0, 1), pytest.param((3, 1), marks=pytest.mark.slow)])
def test_an_encoder_is_read_back_as_it_was_written_and_damage_is_named(
    tmp_path: Path, positions: tuple[int, ...]
) -> None:
    _, served = encoders(positions)
    served.write(tmp_path)
    sessions = queries(2, 3)
    np.testing.assert_array_equal(SessionEncoder.read(tmp_path, 6).vectors(sessions), served.vectors(sessions))
    (tmp_path / NETWORK).write_bytes(served.network[:200])
    with pytest.raises(IndexFolderError, match=r"session\.onnx: is not a network"):
        SessionEncoder.read(tmp_path, 6)
    (tmp_path / NETWORK).unlink()
    with pytest.raises(IndexFolderError, match=r"session\.onnx: No such file"):
        SessionEncoder.read(tmp_path, 6)
    served.write(tmp_path)
    (tmp_path / INPUTS).unlink()
    with pytest.raises(CatalogueError, match=r"session_input\.npy"):
        SessionEncoder.read(tmp_path, 6)


def test_a_network_that_returns_other_vectors_is_refused_when_it_is_read(tmp_path: Path) -> None:
    _, served = encoders((0, 1))
    SessionEncoder(served.network, np.full((N, DIM), np.nan, np.float32), 6).write(tmp_path)
    with pytest.raises(IndexFolderError, match=r"session\.onnx: is not a network"):
        SessionEncoder.read(tmp_path, 6)
