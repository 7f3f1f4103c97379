"""The long-tail rule in training: which row stands for an item, and what its neighbours are."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.config import PropagationConfig
from model.encoder_input import EncoderInput, encoder_input, neighbour_average, propagate_all
from model.features import FeatureMatrix
from model.graph import ItemGraph
from model.propagation import in_neighbours
from model.ragged import ragged_entries
from model.tail import TailGroups, no_groups
from tests.oracles.light_sage import Scene

HEAD, TAIL, TAIL_TOO, COLD, COLD_ALONE = range(5)
FEATURES = np.array([[8, 0], [1, 5], [3, 1], [2, 3], [7, 7]], np.float32)


def build(make_graph: Callable[..., ItemGraph], enabled: bool) -> EncoderInput:
    """Build HEAD ⇄ TAIL and TAIL_TOO → HEAD; the tail items form a group with COLD, and COLD_ALONE is its own group."""
    edges = [(HEAD, TAIL, "swing", 1.0), (TAIL, HEAD, "swing", 3.0), (TAIL_TOO, HEAD, "swing", 1.0)]
    graph = make_graph(5, edges, events=[9, 2, 1, 0, 0], tail=[1, 2, 3, 4])
    features = FeatureMatrix(sp.csr_matrix(FEATURES), FEATURES, num_ids=0)
    groups = TailGroups(np.array([1, 2, 3, 4]), np.array([1, 1, 1, 0]), 2) if enabled else no_groups()
    return encoder_input(graph, features, in_neighbours(graph, PropagationConfig(swing=1.0)), groups)


def averages(encoder: EncoderInput) -> list[list[float]]:
    return propagate_all(encoder, encoder.dense).tolist()


def test_a_tail_item_is_its_groups_row_and_head_and_cold_items_are_their_own(
    make_graph: Callable[..., ItemGraph],
) -> None:
    encoder = build(make_graph, enabled=True)
    assert (encoder.num_items, encoder.num_rows) == (5, 7)
    assert encoder.train_row.tolist() == [HEAD, 6, 6, COLD, COLD_ALONE]


def test_a_groups_row_is_the_mean_of_its_members_in_both_blocks(make_graph: Callable[..., ItemGraph]) -> None:
    encoder = build(make_graph, enabled=True)
    assert encoder.dense.tolist() == [*FEATURES.tolist(), [7, 7], [2, 3]]
    rows = torch.nn.functional.embedding_bag(
        encoder.columns, torch.eye(2), encoder.offsets[:-1], mode="sum", per_sample_weights=encoder.values
    )
    torch.testing.assert_close(rows, encoder.dense)


def test_neighbours_are_read_by_their_training_rows_and_a_cold_item_reads_its_groups_mean(
    make_graph: Callable[..., ItemGraph],
) -> None:
    average = averages(build(make_graph, enabled=True))
    assert average[HEAD] == pytest.approx([2, 3]), "both tail neighbours stand as the group's mean"
    assert average[TAIL] == pytest.approx([8, 0])
    assert average[TAIL_TOO] == [0, 0], "a tail item without in-neighbours reads nothing"
    assert average[COLD] == pytest.approx([2, 3])
    assert average[COLD_ALONE] == pytest.approx([7, 7])


def test_switched_off_every_item_is_itself_and_cold_items_read_nothing(make_graph: Callable[..., ItemGraph]) -> None:
    encoder = build(make_graph, enabled=False)
    assert encoder.num_rows == 5
    assert encoder.train_row.tolist() == list(range(5))
    average = averages(encoder)
    assert average[HEAD] == pytest.approx([(3 * 1 + 3) / 4, (3 * 5 + 1) / 4])
    assert average[COLD] == average[COLD_ALONE] == [0, 0]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), tail=st.booleans())
def test_averages_equal_the_rule_written_as_loops(scene: Callable[..., Scene], seed: int, tail: bool) -> None:
    s = scene(seed, tail)
    with torch.no_grad():
        table = s.network.features(s.encoder.columns, s.encoder.offsets[:-1], s.encoder.values, s.encoder.dense)
        average = propagate_all(s.encoder, table).numpy()
    np.testing.assert_allclose(table[s.encoder.train_row], s.training_features(), atol=1e-5)
    np.testing.assert_allclose(average, [s.average(i) for i in range(s.graph.num_items)], atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(0, 4), min_size=1, max_size=8), data=st.data())
def test_ragged_lists_the_entries_of_the_chosen_rows(lengths: list[int], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=10))
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    expected = [list(range(indptr[r], indptr[r + 1])) for r in rows]
    positions, offsets = ragged_entries(torch.from_numpy(indptr), torch.tensor(rows, dtype=torch.int64))
    assert positions.tolist() == [at for row in expected for at in row]
    assert offsets.tolist() == [sum(map(len, expected[:i])) for i in range(len(rows))]


def test_the_average_of_no_weight_is_zero_with_a_zero_gradient() -> None:
    sums = torch.tensor([[1e-9, -1e-9], [2.0, 4.0]], requires_grad=True)
    average = neighbour_average(sums, torch.tensor([0.0, 2.0]))
    assert average.tolist() == [[0, 0], [1, 2]]
    average.sum().backward()  # type: ignore[no-untyped-call]
    assert sums.grad is not None
    assert sums.grad.tolist() == [[0, 0], [0.5, 0.5]]
