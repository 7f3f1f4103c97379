"""A version whose sessions are encoded: trained, compared with the mean, served, measured; and switched off again."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import retrieval.evaluation.protocols
from jobs.config import Config
from jobs.pipeline import session_stage
from jobs.pipeline.build import index_version
from jobs.pipeline.training import Chosen, choose
from model.embeddings import Embeddings
from retrieval.evaluation.protocols import Choice
from retrieval.index_folder import read_index
from retrieval.ranking.embedding_ranker import EmbeddingRanker
from retrieval.ranking.session_encoder import SessionEncoder
from retrieval.search.request import RetrievalRequest
from retrieval.search.retriever import Retriever
from tests.jobs.conftest import SMALL_MODEL, quiet

CONFIG = Config.model_validate(
    {
        "session": {"enabled": True, "length": 5, "max_epochs": 1, "threads": 1},
        "model": SMALL_MODEL,
    }
)


@pytest.fixture(scope="module")
def chosen(shop: Any) -> Chosen:
    return choose(shop.version / "graph", CONFIG, quiet)


def test_an_encoder_of_noise_does_not_beat_the_mean(shop: Any, chosen: Chosen, monkeypatch: pytest.MonkeyPatch) -> None:
    real = session_stage.train_encoder

    def trained(*given: Any, **more: Any) -> Any:
        assert more == {"held": False}, "what is compared on the hold-out must not have learned from it"
        trained = real(*given, **more)
        noise = np.random.default_rng(0).standard_normal(trained.session_input.shape).astype(np.float32)
        return type(trained)(trained.encoder, noise)

    monkeypatch.setattr(session_stage, "train_encoder", trained)
    compared = (shop.version / "graph", chosen.embeddings, chosen.weights, CONFIG, quiet)
    assert session_stage.better_than_the_mean(*compared) is None


def test_as_much_of_an_encoder_is_followed_as_finds_most(
    shop: Any, chosen: Chosen, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scored(ranker: EmbeddingRanker, *_: Any) -> Choice:
        network = b"" if ranker.session_encoder is None else ranker.session_encoder.network
        return Choice(0.0, {b"": 0.2, b"0.25": 0.1, b"0.5": 0.3, b"1.0": 0.25}[network])

    none = np.zeros((1, 1), np.float32)
    monkeypatch.setattr(session_stage, "train_encoder", lambda *_, **__: None)
    monkeypatch.setattr(
        session_stage, "served", lambda _, share: SessionEncoder(str(share).encode(), none, 5) if share else None
    )
    monkeypatch.setattr(retrieval.evaluation.protocols, "choice_score", scored)
    compared = (shop.version / "graph", chosen.embeddings, chosen.weights, CONFIG, quiet)
    found = session_stage.better_than_the_mean(*compared)
    assert found is not None
    assert (found[0].network, found[1]) == (b"0.5", 0.5)


def test_an_index_with_an_encoder_asks_it_and_one_without_does_not(shop: Any, chosen: Chosen, tmp_path: Path) -> None:
    graph, as_of = shop.version / "graph", read_index(shop.version / "index").as_of
    chosen.embeddings.save(tmp_path / "embeddings")  # of `fit/`, which has the same items
    assert Embeddings.load(tmp_path / "embeddings").item_ids.equals(chosen.embeddings.item_ids)
    for session in (0.5, 0.0):
        decided = Chosen(chosen.record, chosen.weights, chosen.embeddings, session)
        out = tmp_path / f"index-{session}"
        index_version(graph, tmp_path / "embeddings", out, as_of, CONFIG, decided, quiet)
        assert json.loads((out / "meta.json").read_text())["session_items"] == (5 if session else None)
    with_one, without = (Retriever.of(read_index(tmp_path / f"index-{session}")) for session in (0.5, 0.0))
    known = [str(item) for item in with_one.catalogue.item_ids[np.argsort(-with_one.catalogue.events)][:4]]
    assert (
        with_one.retrieve(RetrievalRequest(known[:1], 9)).results
        == without.retrieve(RetrievalRequest(known[:1], 9)).results
    ), "one item asks for itself"
    assert with_one.retrieve(RetrievalRequest(known, 9)).scores != without.retrieve(RetrievalRequest(known, 9)).scores


def test_a_choice_comes_back_as_it_was_saved(chosen: Chosen, tmp_path: Path) -> None:
    Chosen(chosen.record, chosen.weights, chosen.embeddings, 0.25).save(tmp_path)
    assert Chosen.load(tmp_path).session == 0.25
    assert pq.read_table(tmp_path / "embeddings" / "item_ids.parquet").num_rows == len(chosen.embeddings.item_ids)
