"""A session encoder is trained, compared with the mean of the items' vectors, and served if it is better."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import model.sessions.training
from jobs.config import Config
from jobs.pipeline.index_stage import index_version
from jobs.pipeline.session_stage import (
    SHARES,
    best_share,
    blended_encoder,
    browsing_sessions,
    choose_encoder,
    encoder_score,
    train_encoder,
)
from jobs.pipeline.training import HoldoutChoice, choose
from model.embeddings import Embeddings
from retrieval.index_folder import read_index
from retrieval.ranking.session_encoder import SessionEncoder
from retrieval.search.request import RetrievalRequest
from retrieval.search.retriever import Retriever
from tests.jobs.conftest import SMALL_MODEL, ignore_progress

CONFIG = Config.model_validate(
    {
        "session": {"enabled": True, "length": 5, "max_epochs": 1, "threads": 1},
        "model": SMALL_MODEL,
    }
)


@pytest.fixture(scope="module")
def choice(shop: Any) -> HoldoutChoice:
    return choose(shop.version / "graph", CONFIG, ignore_progress)


@pytest.mark.slow
def test_an_encoder_of_noise_does_not_beat_the_mean(shop: Any, choice: HoldoutChoice) -> None:
    graph = shop.version / "graph"
    sessions = browsing_sessions(graph, ~pc.field("held"))
    trained = train_encoder(sessions, choice.embeddings, CONFIG, ignore_progress)
    noise = np.random.default_rng(0).standard_normal(trained.session_input.shape).astype(np.float32)
    useless = type(trained)(trained.encoder, noise)
    score = encoder_score(graph, choice.embeddings, choice.weights, CONFIG)
    assert score is not None
    assert best_share({share: blended_encoder(useless, share) for share in (0.0, *SHARES)}, score) == 0


@pytest.mark.slow
def test_an_encoder_that_is_compared_has_not_seen_the_hold_out(
    shop: Any, choice: HoldoutChoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, train_sessions, trained_on = shop.version / "graph", model.sessions.training.train_sessions, []

    def spy(rows: Any, *others: Any, **options: Any) -> Any:
        trained_on.append(rows)
        return train_sessions(rows, *others, **options)

    monkeypatch.setattr(model.sessions.training, "train_sessions", spy)
    choose_encoder(graph, choice.embeddings, choice.weights, CONFIG, ignore_progress)
    before, everything = browsing_sessions(graph, ~pc.field("held")), browsing_sessions(graph)
    [rows] = trained_on
    np.testing.assert_array_equal(rows.offsets, before.offsets)
    assert len(before.offsets) < len(everything.offsets)


def test_the_share_that_scores_highest_is_served() -> None:
    scores = {0.0: 0.2, 0.25: 0.1, 0.5: 0.3, 1.0: 0.25}
    vectors = np.zeros((1, 1), np.float32)
    encoders = {share: SessionEncoder(str(share).encode(), vectors, 5) if share else None for share in scores}

    def score(encoder: SessionEncoder | None) -> float:
        return scores[float(encoder.network) if encoder else 0.0]

    assert best_share(encoders, score) == 0.5
    assert best_share(encoders, lambda encoder: 0.0 if encoder else 0.1) == 0.0


@pytest.mark.slow
def test_an_index_with_an_encoder_uses_it_for_lists_of_items(shop: Any, choice: HoldoutChoice, tmp_path: Path) -> None:
    graph, as_of = shop.version / "graph", read_index(shop.version / "index").as_of
    # These are the embeddings of `fit/`; they cover the same items as the version's own.
    choice.embeddings.save(tmp_path / "embeddings")
    assert Embeddings.load(tmp_path / "embeddings").item_ids.equals(choice.embeddings.item_ids)
    for share in (0.5, 0.0):
        decided = HoldoutChoice(choice.record, choice.weights, choice.embeddings, share)
        index = tmp_path / f"index-{share}"
        index_version(graph, tmp_path / "embeddings", index, as_of, CONFIG, decided, ignore_progress)
        assert json.loads((index / "meta.json").read_text())["session_items"] == (5 if share else None)
    encoded, averaged = (Retriever.of(read_index(tmp_path / f"index-{share}")) for share in (0.5, 0.0))
    items = [str(item) for item in encoded.catalogue.item_ids[np.argsort(-encoded.catalogue.events)][:4]]
    single, several = RetrievalRequest(items[:1], 9), RetrievalRequest(items, 9)
    assert encoded.retrieve(single).results == averaged.retrieve(single).results, "a single item is its own query"
    assert encoded.retrieve(several).scores != averaged.retrieve(several).scores


@pytest.mark.slow
def test_a_choice_is_read_back_as_it_was_saved(choice: HoldoutChoice, tmp_path: Path) -> None:
    HoldoutChoice(choice.record, choice.weights, choice.embeddings, 0.25).save(tmp_path)
    loaded = HoldoutChoice.load(tmp_path)
    assert (loaded.encoder_share, loaded.weights, loaded.record) == (0.25, choice.weights, choice.record)
    assert pq.read_table(tmp_path / "embeddings" / "item_ids.parquet").num_rows == len(choice.embeddings.item_ids)
