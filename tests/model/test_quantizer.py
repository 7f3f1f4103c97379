"""The residual quantiser compared with loops, the gradients that must reach it, and its training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from model.artefact import load_model, save_model
from model.config import ModelConfig, SemanticIdConfig
from model.embed import embed, semantic_ids
from model.errors import ModelInputError
from model.graph import ItemGraph
from model.kmeans import k_means
from model.quantizer import ResidualQuantizer
from model.semantic_ids import code_usage, prefix_groups
from model.trainer import train

MakeGraph = Callable[..., ItemGraph]
DIM = 6


def quantizer(vectors: Tensor, members: int = 1, **config: Any) -> ResidualQuantizer:
    """Return a quantiser of three levels with four entries each, started from the vectors."""
    residual_quantizer = ResidualQuantizer(
        DIM, SemanticIdConfig.model_validate({"levels": 3, "size": 4, **config}), members
    )
    residual_quantizer.train()(vectors)
    residual_quantizer.start()
    return residual_quantizer


@pytest.fixture
def vectors() -> Tensor:
    torch.manual_seed(0)
    return functional.normalize(torch.randn(40, DIM))


def by_loops(books: Tensor, vectors: Tensor) -> tuple[list[list[int]], Tensor]:
    """Return codes and normalised sums of their entries, computed one vector and one level at a time."""
    codes, sums = [], []
    for vector in vectors:
        left, item_codes = vector.clone(), []
        for book in books:
            item_codes.append(min(range(len(book)), key=lambda entry: float(((left - book[entry]) ** 2).sum())))
            left = left - book[item_codes[-1]]
        codes.append(item_codes)
        sums.append(sum(books[level][entry] for level, entry in enumerate(item_codes)))
    return codes, functional.normalize(torch.stack(sums))


@pytest.mark.parametrize("simvq", [True, False])
def test_codes_are_the_nearest_entries_of_the_residuals(vectors: Tensor, simvq: bool) -> None:
    residual_quantizer = quantizer(vectors, simvq=simvq).eval()
    with torch.no_grad():
        residual_quantizer.maps += 0.1 * torch.randn(residual_quantizer.maps.shape) if simvq else 0.0
        codes, expected = by_loops(residual_quantizer.codebooks(), vectors)
    assert residual_quantizer.encode(vectors).tolist() == codes
    torch.testing.assert_close(residual_quantizer.decode(torch.tensor(codes)), expected)
    torch.testing.assert_close(residual_quantizer(vectors)[0], expected)


def test_members_keep_their_lengths(vectors: Tensor) -> None:
    residual_quantizer = quantizer(vectors, members=2)
    lengths = residual_quantizer(vectors)[0].view(-1, 2, DIM // 2).norm(dim=2)
    torch.testing.assert_close(lengths, torch.full_like(lengths, 2**-0.5))


def test_straight_through_gives_the_vectors_the_gradient_of_their_quantised_selves(vectors: Tensor) -> None:
    residual_quantizer, direction = quantizer(vectors, penalty=0.0), torch.randn(len(vectors), DIM)
    x = vectors.clone().requires_grad_()
    (residual_quantizer(x)[0] * direction).sum().backward()  # type: ignore[no-untyped-call]

    with torch.no_grad():
        codes = residual_quantizer.encode(vectors)
        sums = torch.stack([residual_quantizer.codebooks()[level, codes[:, level]] for level in range(3)]).sum(dim=0)
    sums.requires_grad_()
    (functional.normalize(sums) * direction).sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(x.grad, sums.grad)


def test_the_penalty_pulls_entries_to_vectors_and_vectors_to_entries(vectors: Tensor) -> None:
    residual_quantizer = quantizer(vectors, simvq=False, levels=1, penalty=1.0)
    x = vectors.clone().requires_grad_()
    residual_quantizer(x)[1].backward()  # type: ignore[no-untyped-call]
    codes = residual_quantizer.encode(vectors)[:, 0]
    apart = vectors - residual_quantizer.entries[0, codes]
    torch.testing.assert_close(x.grad, 0.25 * 2 * apart.detach() / len(vectors))
    expected = torch.zeros(4, DIM).index_add_(0, codes, -2 * apart.detach() / len(vectors))
    assert residual_quantizer.entries.grad is not None
    torch.testing.assert_close(residual_quantizer.entries.grad[0], expected)


@pytest.mark.parametrize("simvq", [True, False])
def test_gumbel_gradients_reach_vectors_and_codebooks_through_the_distances(vectors: Tensor, simvq: bool) -> None:
    """If a distance is detached anywhere, the vectors have no gradient at all, and this test fails."""
    residual_quantizer, direction = (
        quantizer(vectors, mode="gumbel", simvq=simvq, penalty=0.0),
        torch.randn(len(vectors), DIM),
    )
    learned = residual_quantizer.maps if simvq else residual_quantizer.entries
    residual_quantizer.temperature = 0.7
    x = vectors.clone().requires_grad_()
    torch.manual_seed(1)
    found, penalty = residual_quantizer(x)
    (found * direction).sum().backward()  # type: ignore[no-untyped-call]
    gradients = [x.grad, learned.grad, residual_quantizer.sharpness.grad]
    residual_quantizer.zero_grad()

    slow = vectors.clone().requires_grad_()
    torch.manual_seed(1)
    left, total = slow, torch.zeros_like(slow)
    for level, book in enumerate(residual_quantizer.codebooks()):
        distance = torch.stack([((left - entry) ** 2).sum(dim=1) for entry in book], dim=1)
        noise = -torch.empty_like(distance).exponential_().log()
        soft = ((noise - distance * residual_quantizer.sharpness[level].exp()) / 0.7).softmax(dim=1)
        hard = functional.one_hot(soft.argmax(dim=1), len(book)) + soft - soft.detach()
        total, left = total + hard @ book, left - hard @ book
    (functional.normalize(total) * direction).sum().backward()  # type: ignore[no-untyped-call]
    assert penalty.item() == 0
    for a, b in zip(gradients, [slow.grad, learned.grad, residual_quantizer.sharpness.grad], strict=True):
        assert a is not None
        assert a.abs().sum() > 0
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_the_temperature_changes_from_initial_to_final(vectors: Tensor) -> None:
    residual_quantizer = quantizer(vectors, mode="gumbel", initial_temperature=0.25, final_temperature=1.0, warm_up=0.2)
    found = []
    for share in (0.0, 0.2, 0.6, 1.0):
        residual_quantizer.step(share)
        found.append(residual_quantizer.temperature)
    assert found == pytest.approx([0.25, 0.25, 0.5, 1.0])


@pytest.mark.parametrize("simvq", [True, False])
def test_dead_entries_move_to_residuals(vectors: Tensor, simvq: bool) -> None:
    residual_quantizer = quantizer(vectors, simvq=simvq)
    with torch.no_grad():
        residual_quantizer.maps += 0.1 * torch.randn(residual_quantizer.maps.shape) if simvq else 0.0
        residual_quantizer.entries[0, 1] = 1e3
        residual_quantizer.use[0, 1] = 0.0
    assert residual_quantizer.revive() == 1
    assert residual_quantizer.revive() == 0
    moved = residual_quantizer.codebooks()[0, 1].detach()
    assert (vectors - moved).norm(dim=1).min() < 1e-4
    assert 1 in residual_quantizer.encode(vectors)[:, 0]


def test_k_means_finds_clusters_that_lie_apart() -> None:
    torch.manual_seed(0)
    true = 10 * torch.randn(5, 4)
    points = true.repeat_interleave(30, dim=0) + 0.01 * torch.randn(150, 4)
    found = k_means(points, 5)
    assert torch.cdist(true, found).min(dim=1).values.max() < 0.1


def small_graph(make_graph: MakeGraph, n: int = 24) -> ItemGraph:
    pairs = [(i, (i + d) % n) for i in range(n) for d in (1, 2)] * 4
    edges = [(a, b, "strong_click", 1.0) for a, b in sorted(set(pairs))]
    return make_graph(n, edges, pairs, events=[8] * (n - 2) + [2, 2], tail=[n - 2, n - 1])


def small_config(**semantic_ids: Any) -> ModelConfig:
    return ModelConfig.model_validate(
        {
            "dim": 8,
            "members": 2,
            "loss": {"random_negatives": 16},
            "train": {"batch_size": 32, "max_epochs": 20, "threads": 1},
            "semantic_ids": {"levels": 2, "size": 8, **semantic_ids},
        }
    )


@pytest.mark.parametrize("simvq", [False, True])
def test_finalised_entries_are_the_means_of_the_items_that_use_them(vectors: Tensor, simvq: bool) -> None:
    torch.manual_seed(0)
    residual_quantizer = ResidualQuantizer(DIM, SemanticIdConfig(levels=2, size=4, simvq=simvq))
    residual_quantizer.finalize_codebooks(vectors)
    assert not residual_quantizer.started  # so nothing is finalised
    residual_quantizer.started.fill_(True)
    with torch.no_grad():
        residual_quantizer.maps.mul_(2.0)
        residual_quantizer.entries[:, 1:] = 100.0  # which no vector comes near
    for _ in range(10):
        residual_quantizer.finalize_codebooks(vectors)
    left = vectors
    for level, codes in enumerate(residual_quantizer.encode(vectors).T):
        assert set(codes.tolist()) == {0, 1, 2, 3}
        for code in range(4):
            torch.testing.assert_close(residual_quantizer.codebooks()[level, code], left[codes == code].mean(dim=0))
        left = left - residual_quantizer.codebooks()[level, codes]


def test_codebooks_larger_than_the_catalogue_are_finalised(vectors: Tensor) -> None:
    residual_quantizer = quantizer(vectors)
    residual_quantizer.finalize_codebooks(vectors[:3])
    torch.testing.assert_close(residual_quantizer.decode(residual_quantizer.encode(vectors[:3])), vectors[:3])


@pytest.mark.parametrize("mode", ["ste", "gumbel"])
def test_codes_are_the_same_after_save_and_load(make_graph: MakeGraph, tmp_path: Path, mode: str) -> None:
    graph, config = small_graph(make_graph), small_config(mode=mode)
    trained = train(graph, config)
    save_model(tmp_path, trained, config)
    found = load_model(tmp_path).network
    again = embed(graph, found, trained.encoder, trained.embeddings.prior)
    np.testing.assert_array_equal(again.item, trained.embeddings.item)
    assert found.quantizer is not None
    codes = semantic_ids(found, trained.encoder)
    np.testing.assert_array_equal(codes, semantic_ids(trained.network, trained.encoder))
    np.testing.assert_array_equal(found.quantizer.decode(torch.from_numpy(codes)).numpy(), again.item)
    assert len(np.unique(trained.embeddings.item, axis=0)) > 8  # two levels tell more items apart than one could
    assert np.array_equal(train(graph, config).embeddings.item, trained.embeddings.item)


def test_what_validates_best_before_the_quantiser_starts_is_not_kept(make_graph: MakeGraph) -> None:
    config = small_config(warm_up=0.6)
    scores = iter([1.0, *[0.5] * 100])
    config = config.model_copy(update={"train": config.train.model_copy(update={"patience": 100, "max_epochs": 8.0})})
    trained = train(small_graph(make_graph), config, validate=lambda _: next(scores))
    assert trained.record.curve[0][2] == 1.0
    assert trained.network.quantizer is not None
    assert trained.network.quantizer.started


def test_more_codes_than_vectors_to_start_from_is_an_error_with_a_way_out(make_graph: MakeGraph) -> None:
    with pytest.raises(ModelInputError, match=r"256 codes a level: set \[model.semantic_ids\] size lower"):
        train(small_graph(make_graph), small_config(size=256, warm_up=0.0))


def test_code_usage_by_hand() -> None:
    codes = np.array([[0, 0], [0, 1], [1, 0], [1, 0]])
    assert code_usage(codes, 4) == {
        "usage": [0.5, 0.5],
        "perplexity": [0.5, pytest.approx(np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25))) / 4, abs=1e-4)],
        "collisions": 0.5,
    }


def test_prefixes_are_as_long_as_their_items_have_enough_events() -> None:
    #        0       1       2       3       4       5       6
    codes = [[0, 0], [0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [0, 0]]
    events = [3, 1, 5, 1, 1, 0, 9]
    rows = np.arange(6)  # the last is no tail item
    found = prefix_groups(np.array(codes), np.array(events), rows, min_events=4)
    # Items 0 and 1 share a whole code and have four events together; 2 has enough events alone; 3 is what is left with
    # the prefix [0]; 4 and 5 share the prefix [1].
    assert sorted(np.flatnonzero(found == g).tolist() for g in np.unique(found)) == [[0, 1], [2], [3], [4, 5]]
    assert sorted(np.unique(found)) == list(range(4))
