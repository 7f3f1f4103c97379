"""The network before any training, its dropout and its device."""

from typing import get_args

import pytest
import torch

from model.errors import ModelInputError
from model.loss import SoftmaxOptions, sampled_softmax
from model.network import LightSAGE, Role, _dropout_mask


@pytest.fixture
def network() -> LightSAGE:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return LightSAGE(table_rows=6, dense_dim=2, dim=8, dropout=0.5)


@pytest.mark.parametrize("role", get_args(Role))
def test_both_roles_start_near_the_sum_of_self_and_neighbours(network: LightSAGE, role: Role) -> None:
    own, average = torch.randn(2, 50, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        output = network.eval()(own, average, role)
    assert (output * torch.nn.functional.normalize(own + average, dim=1)).sum(1).min() > 0.97


def test_embeddings_have_length_one_even_without_any_feature(network: LightSAGE) -> None:
    nothing = torch.zeros(3, 8)
    with torch.no_grad():
        output = network.eval()(nothing, nothing, "item")
    torch.testing.assert_close(output.norm(dim=1), torch.ones(3))


def test_features_add_table_rows_by_their_values_and_the_projected_content(network: LightSAGE) -> None:
    columns, offsets, values = torch.tensor([0, 5, 5]), torch.tensor([0, 2, 2]), torch.tensor([1.0, 0.5, 2.0])
    dense = torch.tensor([[1.0, 0.0], [0.0, 3.0], [0.0, 0.0]])
    output = network.features(columns, offsets, values, dense)
    table, content = network.table, network.content
    torch.testing.assert_close(
        output, torch.stack([table[0] + 0.5 * table[5] + content[0], 3 * content[1], 2 * table[5]])
    )


def test_dropout_acts_in_training_alone(network: LightSAGE) -> None:
    own = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad(), torch.random.fork_rng():
        assert not torch.equal(network.train()(own, own, "query"), network(own, own, "query"))
        assert torch.equal(network.eval()(own, own, "query"), network(own, own, "query"))


@pytest.mark.parametrize("dropout", [0.004, 0.2, 0.5, 0.99])
def test_dropout_drops_its_share_everywhere_and_keeps_the_mean(dropout: float) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        mask = _dropout_mask(torch.Size((1000, 5, 21)), dropout, torch.device("cpu"))
    assert len(mask.unique()) == 2
    expected = round(256 * dropout) / 256
    assert (mask == 0).float().mean() == pytest.approx(expected, abs=0.005)
    # One draw decides for 8 inputs at once. Each of these 8 places is dropped equally often, and so is each column.
    for view in (mask.reshape(-1, 8), mask.reshape(-1, 21)):
        torch.testing.assert_close(
            (view == 0).float().mean(0), torch.full((view.shape[1],), expected), atol=0.03, rtol=0
        )
    assert mask.max() * (1 - expected) == pytest.approx(1)


def test_a_step_stays_on_its_device() -> None:
    """The device `meta` has no storage; any tensor that is made on the CPU would cause an error."""
    meta = torch.device("meta")
    network = LightSAGE(9, 3, 8, dropout=0.2, members=2).to(meta)
    network.train()
    own, average = torch.empty(6, 8, device=meta), torch.empty(6, 8, device=meta)
    items = torch.zeros(6, dtype=torch.int64, device=meta)
    loss = sampled_softmax(
        network(own[:2], average[:2], "query"),
        network(own, average, "item"),
        items[:2],
        items,
        torch.empty(6, device=meta),
        SoftmaxOptions(0.1, members=2),
    )
    loss.backward()
    assert loss.device == network.heads["item"].weight.grad.device == meta


def test_a_configured_gpu_that_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from model import trainer

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert trainer._device("auto") == trainer._device("cpu") == "cpu"
    with pytest.raises(ModelInputError, match="device is cuda"):
        trainer._device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert (trainer._device("auto"), trainer._device("cpu")) == ("cuda", "cpu")
