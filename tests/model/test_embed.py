"""Every role of every item compared with the rule, written as loops over dense matrices."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.embed import embed
from tests.oracles.light_sage import Scene


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), tail=st.booleans())
def test_roles_equal_the_rule_written_as_loops(scene: Callable[..., Scene], seed: int, tail: bool) -> None:
    s = scene(seed, tail)
    embeddings = embed(s.graph, s.network, s.encoder, np.zeros(s.graph.num_items, np.float32))
    own, trained = s.own_features(), s.training_features()
    items = range(s.graph.num_items)
    np.testing.assert_allclose(embeddings.query, [s.head(trained[i], s.average(i), "query") for i in items], atol=1e-4)
    np.testing.assert_allclose(embeddings.item, [s.head(trained[i], s.average(i), "item") for i in items], atol=1e-4)
    np.testing.assert_allclose(
        embeddings.item_unaveraged, [s.head(own[i], s.average(i), "item") for i in (1, 2)], atol=1e-4
    )


def test_the_tail_rows_are_the_tail_items_with_events(scene: Callable[..., Scene]) -> None:
    s = scene(0)
    embeddings = embed(s.graph, s.network, s.encoder, np.zeros(s.graph.num_items, np.float32))
    assert embeddings.tail_rows.tolist() == [1, 2], "not the cold item, whose own features are in `item` already"
    assert embeddings.tail_rows.dtype == np.int64
    assert embeddings.item_ids.equals(s.graph.item_ids)
    assert {a.dtype for a in (embeddings.query, embeddings.item, embeddings.item_unaveraged)} == {np.dtype(np.float32)}


def test_a_tail_items_own_vector_is_not_its_groups(scene: Callable[..., Scene]) -> None:
    s = scene(1)
    embeddings = embed(s.graph, s.network, s.encoder, np.zeros(s.graph.num_items, np.float32))
    assert not np.allclose(embeddings.item[embeddings.tail_rows], embeddings.item_unaveraged, atol=1e-3)


def test_switched_off_a_tail_item_has_one_vector_as_a_candidate(scene: Callable[..., Scene]) -> None:
    s = scene(2, tail_enabled=False)
    embeddings = embed(s.graph, s.network, s.encoder, np.zeros(s.graph.num_items, np.float32))
    np.testing.assert_allclose(embeddings.item[embeddings.tail_rows], embeddings.item_unaveraged, rtol=1e-6)


def test_chunks_make_no_difference(scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch) -> None:
    s = scene(3)
    whole = embed(s.graph, s.network, s.encoder, np.zeros(s.graph.num_items, np.float32))
    monkeypatch.setattr("model.embed._CHUNK", 2)
    parts = embed(s.graph, s.network, s.encoder, np.zeros(s.graph.num_items, np.float32))
    for name in ("query", "item", "item_unaveraged"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), atol=1e-6)
