"""Training end to end on graphs with a known answer; early stopping, refits and seeds."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray

from model.config import ModelConfig
from model.embeddings import Embeddings
from model.errors import ModelInputError
from model.graph import ItemGraph
from model.trained import Trained
from model.trainer import train

MakeGraph = Callable[..., ItemGraph]
ROLES = ("query", "item", "item_unaveraged")


def config_of(**sections: Any) -> ModelConfig:
    train_options = {"batch_size": 32, "max_epochs": 10, "threads": 1, **sections.pop("train", {})}
    loss = {"random_negatives": 16, **sections.pop("loss", {})}
    return ModelConfig.model_validate({"dim": 16, "train": train_options, "loss": loss, **sections})


def from_pairs(make_graph: MakeGraph, n: int, pairs: list[tuple[int, int]], **columns: Any) -> ItemGraph:
    """Return a graph whose strong-click edges are its pairs, as if it were built from them."""
    return make_graph(n, [(a, b, "strong_click", 1.0) for a, b in sorted(set(pairs))], pairs, **columns)


def small_graph(make_graph: MakeGraph) -> ItemGraph:
    """Return a graph of twelve items on a ring, two of them tail items, and a cold item that has no feature at all."""
    pairs = [(i, (i + d) % 12) for i in range(12) for d in (1, 2)] * 4
    return from_pairs(make_graph, 13, pairs, events=[8] * 10 + [2, 2, 0], tail=[10, 11, 12])


def ranked(embeddings: Embeddings) -> NDArray[np.int64]:
    """Return for each of N items the N − 1 others, best first."""
    scores = embeddings.query @ embeddings.item.T
    np.fill_diagonal(scores, -np.inf)
    return np.argsort(-scores, axis=1)[:, :-1]


def same(a: Embeddings, b: Embeddings) -> bool:
    return all(np.array_equal(getattr(a, role), getattr(b, role)) for role in ROLES)


class Script:
    """A validation that gives the scores it was made with, and records the embeddings that it is called with."""

    def __init__(self, *scores: float) -> None:
        self._scores: Iterator[float] = iter(scores)
        self.seen: list[Embeddings] = []

    def __call__(self, embeddings: Embeddings) -> float:
        self.seen.append(embeddings)
        return next(self._scores)


def test_two_communities_are_told_apart(make_graph: MakeGraph) -> None:
    """A checkerboard: shoppers move among even items or among odd ones. Every neighbour of an even item is even."""
    rng = np.random.default_rng(0)
    starts = rng.integers(0, 20, 1500)
    pairs = [(int(a), int((a + 2 * d) % 20)) for a, d in zip(starts, rng.integers(1, 10, 1500), strict=True)]
    # Few edges are kept in the averages: the rest must be learned.
    graph = dataclasses.replace(
        from_pairs(make_graph, 20, pairs[:40]),
        pairs=np.array(pairs, np.int32),
        pair_steps=np.ones(len(pairs), np.int32),
        pair_age=np.zeros(len(pairs), np.float32),
    )
    top = ranked(train(graph, config_of()).embeddings)[:, :9]
    assert (top % 2 == np.arange(20)[:, None] % 2).all()


def test_a_direction_is_learned(make_graph: MakeGraph) -> None:
    """On a ring i → i + 1, the next item comes first, and not the previous one."""
    graph = from_pairs(make_graph, 20, [(i, (i + 1) % 20) for i in range(20)] * 40)
    best = ranked(train(graph, config_of(train={"max_epochs": 12})).embeddings)[:, 0]
    assert best.tolist() == [(i + 1) % 20 for i in range(20)]


def test_a_cold_item_is_found_by_its_features(make_graph: MakeGraph) -> None:
    """Shoppers stay within a category; a cold lamp is nearer to lamps than to shoes."""
    category = ["lamp", "shoe"] * 10
    graph = from_pairs(
        make_graph,
        20,
        [(a, b) for a in range(18) for b in range(18) if a != b and a % 2 == b % 2],
        events=[9] * 18 + [0, 0],
        tail=[18, 19],
        items=pa.table({"item_id": [f"i{i:03}" for i in range(20)], "category": category}),
    )
    top = ranked(train(graph, config_of()).embeddings)[[18, 19], :9]
    assert (top % 2 == [[0], [1]]).all()


@pytest.mark.parametrize("tail", [True, False])
def test_every_item_has_a_finite_embedding_of_length_one(make_graph: MakeGraph, tail: bool) -> None:
    """This includes a cold item without a single feature or neighbour."""
    embeddings = train(small_graph(make_graph), config_of(tail={"enabled": tail})).embeddings
    for role, rows in zip(ROLES, (13, 13, 2), strict=True):
        matrix = getattr(embeddings, role)
        assert matrix.shape == (rows, 16)
        np.testing.assert_allclose(np.linalg.norm(matrix, axis=1), 1, atol=1e-5)


def test_a_graph_without_any_feature_still_embeds(make_graph: MakeGraph) -> None:
    embeddings = train(
        small_graph(make_graph), config_of(features={"id_min_events": 99}, train={"max_epochs": 1})
    ).embeddings
    np.testing.assert_allclose(np.linalg.norm(embeddings.item, axis=1), 1, atol=1e-5)


def early_stopped(make_graph: MakeGraph) -> tuple[Script, Trained]:
    script = Script(0.1, 0.5, 0.4, 0.5)
    return script, train(small_graph(make_graph), config_of(), validate=script)


def test_early_stop_returns_the_best_weights_after_patience_worse_or_equal_evaluations(make_graph: MakeGraph) -> None:
    script, trained = early_stopped(make_graph)
    assert len(script.seen) == 4, "patience is 2: neither .4 nor the second .5 is better"
    assert same(trained.embeddings, script.seen[1])
    assert not same(trained.embeddings, script.seen[3])
    curve = trained.record.curve
    assert [score for _, _, score in curve] == [0.1, 0.5, 0.4, 0.5]
    assert trained.record.steps == curve[1][0] < curve[3][0] < trained.record.schedule_steps


def test_a_refit_with_the_chosen_share_takes_the_same_steps(make_graph: MakeGraph) -> None:
    """On the same graph, the refit ends with exactly the weights that the early stop kept: it has the same batches."""
    script, chosen = early_stopped(make_graph)
    again = train(small_graph(make_graph), config_of(), share=chosen.record.share)
    assert same(again.embeddings, script.seen[1])
    assert (again.record.steps, again.record.schedule_steps) == (chosen.record.steps, chosen.record.schedule_steps)


def test_without_validation_the_whole_schedule_is_trained(make_graph: MakeGraph) -> None:
    """96 pairs in batches of 32 are 3 steps in each of 10 epochs."""
    record = train(small_graph(make_graph), config_of()).record
    assert (record.steps, record.schedule_steps, record.pairs) == (30, 30, 96)
    assert record.curve[-1][0] == 30
    assert {score for _, _, score in record.curve} == {None}
    assert record.curve[-1][1] < record.curve[0][1], "the loss falls"


def test_another_schedule_is_another_model(make_graph: MakeGraph) -> None:
    graph = small_graph(make_graph)
    short, long = (
        train(graph, config_of(train={"max_epochs": epochs}), share=share) for epochs, share in ((4, 1.0), (40, 0.1))
    )
    assert short.record.steps == long.record.steps == 12
    assert not same(short.embeddings, long.embeddings)


def test_a_refit_on_more_pairs_makes_as_many_passes(make_graph: MakeGraph) -> None:
    graph = small_graph(make_graph)
    twice = dataclasses.replace(
        graph,
        pairs=np.tile(graph.pairs, (2, 1)),
        pair_steps=np.tile(graph.pair_steps, 2),
        pair_age=np.tile(graph.pair_age, 2),
    )
    assert [train(g, config_of(), share=0.5).record.steps for g in (graph, twice)] == [15, 30]


def test_the_same_seed_gives_identical_embeddings_and_another_seed_others(make_graph: MakeGraph) -> None:
    graph = small_graph(make_graph)
    first, second = (train(graph, config_of()).embeddings for _ in range(2))
    assert same(first, second)
    assert not same(first, train(graph, config_of(train={"seed": 1})).embeddings)


def test_training_leaves_the_global_random_state_alone(make_graph: MakeGraph) -> None:
    torch.manual_seed(11)
    before, numpy_before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
    train(small_graph(make_graph), config_of(train={"max_epochs": 1}))
    assert torch.equal(before, torch.random.get_rng_state())
    assert np.array_equal(numpy_before, np.random.get_state()[1])  # type: ignore[index]


def test_progress_rises_to_one(make_graph: MakeGraph) -> None:
    calls: list[tuple[str, float]] = []
    train(small_graph(make_graph), config_of(), progress=lambda message, share: calls.append((message, share)))
    shares = [share for _, share in calls]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert calls[-1][0].startswith("step 30/30, loss ")


def test_the_tail_switch_gives_candidates_of_one_group_a_vector_of_their_own(make_graph: MakeGraph) -> None:
    brands = pa.table({"item_id": [f"i{i:03}" for i in range(13)], "brand": [*"xy" * 6, "x"]})
    graph = dataclasses.replace(small_graph(make_graph), items=brands)
    settings = ({"at_inference": True}, {"at_inference": False}, {"enabled": False, "at_inference": True})
    on, training, off = (train(graph, config_of(tail=tail)).embeddings for tail in settings)
    assert not np.allclose(on.item[on.tail_rows], on.item_unaveraged, atol=1e-3)
    for own in (training, off):
        assert np.allclose(own.item[own.tail_rows], own.item_unaveraged, atol=1e-5)
    assert not np.allclose(training.item, off.item, atol=1e-3), "training alone makes a difference"


def test_no_transitions_is_an_error_that_says_what_to_check(make_graph: MakeGraph) -> None:
    with pytest.raises(ModelInputError, match=r"0 transitions.*session_id"):
        train(make_graph(3, [(0, 1, "swing", 1.0)]), config_of())


def test_transitions_that_are_all_too_far_apart_are_counted_in_the_error(make_graph: MakeGraph) -> None:
    graph = make_graph(3, pairs=[(0, 1), (1, 2)], steps=[2, 3])
    with pytest.raises(
        ModelInputError, match=r"2 transitions, and none spans at most \[model.train\] max_steps_apart = 1"
    ):
        train(graph, config_of())
    assert train(graph, config_of(train={"max_steps_apart": 2})).record.pairs == 1


def test_a_loss_that_blows_up_is_an_error_that_names_the_setting(make_graph: MakeGraph) -> None:
    with pytest.raises(ModelInputError, match=r"the loss became nan at step \d+: lower \[model.train\] table_lr"):
        train(small_graph(make_graph), config_of(train={"table_lr": 1e38}))


def test_with_a_fixed_table_the_heads_alone_learn(make_graph: MakeGraph) -> None:
    graph = small_graph(make_graph)
    short, long = (train(graph, config_of(train={"table_lr": 0, "max_epochs": n})).network for n in (1, 8))
    assert torch.equal(short.table, long.table)
    assert not torch.equal(short.heads["query"].weight, long.heads["query"].weight)
