"""A version whose sessions are encoded: trained, compared with the mean, served, measured; and switched off again."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs import sessions
from jobs.config import Config
from jobs.run import index_version
from jobs.training import Chosen, choose
from model.embeddings import Embeddings
from retrieval.index import read_index
from retrieval.retriever import Retriever
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
    real = sessions.train_encoder

    def trained(*given: Any, **more: Any) -> Any:
        assert more == {"held": False}, "what is compared on the hold-out must not have learned from it"
        encoder = real(*given, **more)
        noise = np.random.default_rng(0).standard_normal(encoder.inputs.shape).astype(np.float32)
        return type(encoder)(encoder.network, noise, encoder.length)

    monkeypatch.setattr(sessions, "train_encoder", trained)
    compared = (shop.version / "graph", chosen.embeddings, chosen.weights, CONFIG, quiet)
    assert not sessions.better_than_the_mean(*compared)


def test_an_index_with_an_encoder_asks_it_and_one_without_does_not(shop: Any, chosen: Chosen, tmp_path: Path) -> None:
    graph, as_of = shop.version / "graph", read_index(shop.version / "index").as_of
    chosen.embeddings.save(tmp_path / "embeddings")  # of `fit/`, which has the same items
    assert Embeddings.load(tmp_path / "embeddings").item_ids.equals(chosen.embeddings.item_ids)
    for session in (True, False):
        decided = Chosen(chosen.record, chosen.weights, chosen.embeddings, session)
        out = tmp_path / f"index-{session}"
        index_version(graph, tmp_path / "embeddings", out, as_of, CONFIG, decided, quiet)
        assert json.loads((out / "meta.json").read_text())["session_items"] == (5 if session else None)
    with_one, without = (Retriever.of(read_index(tmp_path / f"index-{session}")) for session in (True, False))
    known = [str(item) for item in with_one.catalogue.item_ids[np.argsort(-with_one.catalogue.events)][:4]]
    assert with_one.retrieve(known[:1], 9).results == without.retrieve(known[:1], 9).results, "one item asks for itself"
    assert with_one.retrieve(known, 9).scores != without.retrieve(known, 9).scores


def test_a_choice_comes_back_as_it_was_saved(chosen: Chosen, tmp_path: Path) -> None:
    Chosen(chosen.record, chosen.weights, chosen.embeddings, True).save(tmp_path)
    assert Chosen.load(tmp_path).session is True
    assert pq.read_table(tmp_path / "embeddings" / "item_ids.parquet").num_rows == len(chosen.embeddings.item_ids)
