"""The selectors compared with their formula and schedule; they must find known groups among noise and copies."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
import torch

from model.config import ModelConfig
from model.errors import ModelInputError
from model.feature_selection import GroupSelector, split_pairs_by_items
from model.graph import ItemGraph
from model.network import LightSAGE
from model.trainer import train

MakeGraph = Callable[..., ItemGraph]


def test_relaxed_choices_are_those_of_the_formula() -> None:
    torch.manual_seed(0)
    selector = GroupSelector(torch.tensor([0, 0, 1, 2, 2]), 3, 2).train()
    selector.temperature = 0.5
    torch.manual_seed(1)
    result = selector()
    torch.manual_seed(1)
    noise = -torch.empty(2, 3).exponential_().log()
    logits = selector.psi @ selector.map + selector.bias
    choice = torch.exp((logits + noise) / 0.5)
    gate = (choice / choice.sum(dim=1, keepdim=True)).sum(dim=0)
    torch.testing.assert_close(result, gate[[0, 0, 1, 2, 2]])


def test_after_training_a_group_is_read_or_not() -> None:
    selector = GroupSelector(torch.tensor([0, 0, 1, 2, 2]), 3, 2, indirect=False).eval()
    with torch.no_grad():
        selector.psi.copy_(torch.tensor([[0.0, 0.0, 9.0], [9.0, 0.0, 0.0]]))
    assert selector().tolist() == [1, 1, 0, 1, 1]
    assert selector.chosen().tolist() == [0, 2]
    assert selector.confidence().tolist() == pytest.approx([1, 0, 1], abs=1e-3)


def test_the_temperature_falls_exponentially_from_10_to_a_hundredth() -> None:
    selector = GroupSelector(torch.tensor([0, 1]), 2, 1)
    result = []
    for share in (0.0, 1 / 3, 1.0):
        selector.step(share)
        result.append(selector.temperature)
    assert result == pytest.approx([10, 1, 0.01])


def test_the_network_reads_features_times_their_groups_gates() -> None:
    torch.manual_seed(0)
    network = LightSAGE(3, 2, 4)
    network.selector = GroupSelector(torch.tensor([0, 0, 1, 2, 2]), 3, 2).train()
    columns, offsets, values = torch.tensor([0, 2, 1]), torch.tensor([0, 2]), torch.tensor([1.0, 2.0, 3.0])
    dense = torch.rand(2, 2)
    torch.manual_seed(1)
    result = network.features(columns, offsets, values, dense)
    result.sum().backward()  # type: ignore[no-untyped-call]
    assert network.selector.psi.grad is not None
    assert network.selector.psi.grad.abs().sum() > 0
    torch.manual_seed(1)
    gate = network.selector()
    rows = torch.stack([gate[0] * network.table[0] + 2 * gate[2] * network.table[2], 3 * gate[1] * network.table[1]])
    torch.testing.assert_close(result, rows + (dense * gate[3:]) @ network.content)


def test_selectors_of_the_same_group_are_penalised() -> None:
    selector = GroupSelector(torch.tensor([0, 1, 2]), 3, 2, indirect=False)
    with torch.no_grad():
        selector.psi.copy_(torch.tensor([[9.0, 0.0, 0.0], [9.0, 0.0, 0.0]]))
        assert float(selector.overlap()) == pytest.approx(1, abs=0.01)
        selector.psi.copy_(torch.tensor([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0]]))
        assert float(selector.overlap()) == pytest.approx(0, abs=0.01)


def planted(make_graph: MakeGraph) -> ItemGraph:
    """Return a graph in which items follow items of the same make and colour; other columns are copies or noise."""
    rng = np.random.default_rng(0)
    n = 240
    make, colour = rng.integers(0, 12, n), rng.integers(0, 6, n)
    columns = {"make": make, "colour": colour, "copy of make": make, "copy of colour": colour}
    columns |= {"nearly make": np.where(np.arange(n) < 2, 11 - make, make)}
    columns |= {f"noise {i}": rng.integers(0, 8, n) for i in range(8)}
    items = pa.table({"item_id": [f"i{i:03}" for i in range(n)]} | {k: [f"{x}" for x in v] for k, v in columns.items()})
    alike = (make[:, None] == make) & (colour[:, None] == colour) & ~np.eye(n, dtype=bool)
    return make_graph(n, pairs=np.argwhere(alike).tolist() * 8, items=items)


def test_planted_groups_are_found_among_copies_and_noise(make_graph: MakeGraph) -> None:
    graph = planted(make_graph)
    columns = tuple(name for name in graph.items.column_names if name != "item_id")
    config = ModelConfig.model_validate(
        {
            "dim": 32,
            "features": {"columns": columns, "id_min_events": 10**9},
            "train": {"batch_size": 128, "max_epochs": 12, "threads": 1},
        }
    )
    trained = train(graph, config, keep_groups=2)
    assert trained.network.selector is not None
    names = [columns[group] for group in trained.network.selector.chosen().tolist()]
    assert names == ["make", "colour"]
    assert trained.network.selector.confidence().topk(2).values.min() > 0.8


def test_the_table_and_the_choice_learn_from_pairs_without_an_item_in_common() -> None:
    pairs = np.random.default_rng(0).integers(0, 60, (5000, 2))
    learned, chooses = split_pairs_by_items(pairs, 60, seed=0)
    table_items, selector_items = np.unique(learned), np.unique(chooses)
    assert not np.intersect1d(table_items, selector_items).size
    assert len(selector_items) == pytest.approx(20, abs=8)
    among = np.isin(pairs, table_items).all(axis=1), np.isin(pairs, selector_items).all(axis=1)
    np.testing.assert_array_equal(learned, pairs[among[0]])
    np.testing.assert_array_equal(chooses, pairs[among[1]])
    both = split_pairs_by_items(pairs[:1], 60, seed=0)  # too few to be split
    assert [len(part) for part in both] == [1, 1]


def test_a_selection_that_is_impossible_is_refused(make_graph: MakeGraph) -> None:
    graph = planted(make_graph)
    config = ModelConfig.model_validate({"features": {"columns": ("make", "colour")}})
    with pytest.raises(ModelInputError, match="without an id table"):
        train(graph, config, keep_groups=1)
    columns = ("make", "colour", "copy of make", "nearly make")
    config = ModelConfig.model_validate({"features": {"columns": columns, "id_min_events": 10**9}})
    with pytest.raises(
        ModelInputError, match=r"cannot select 3 of 4 .*\(2 of them are equivalent to another\): keep between 1 and 2"
    ):
        train(graph, config, keep_groups=3)
    config = ModelConfig.model_validate({"features": {"columns": ("make", "colour"), "id_min_events": 10**9}})
    with pytest.raises(ModelInputError, match="cannot select 2 of 2 feature groups: keep between 1 and 1"):
        train(graph, config, keep_groups=2)
    fixed = config.model_copy(update={"train": config.train.model_copy(update={"table_lr": 0.0})})
    with pytest.raises(ModelInputError, match="table_lr above 0"):
        train(graph, fixed, keep_groups=1)
