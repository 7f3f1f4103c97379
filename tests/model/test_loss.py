"""Sampled softmax: a value computed by hand, masks, and the logQ correction compared with the full softmax."""

import math
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from model.loss import LogQ, SoftmaxOptions, expected_counts, sampled_softmax

ITEMS = 20
TEMPERATURE = 0.1


def scene() -> tuple[Tensor, Tensor]:
    """Return one query's logits, with half of the softmax's mass on item 0, and a long-tailed target share."""
    logits = torch.linspace(1.0, -1.0, ITEMS)
    logits[0] = torch.logsumexp(logits[1:], 0)  # P(item 0) = 1/2
    share = 1.0 / torch.arange(1, ITEMS + 1)
    return logits, share / share.sum()


def mean_sampled_gradient(logq: LogQ, target: int, logits: Tensor, batches: int = 400) -> Tensor:
    """Return the mean gradient of the first query's loss with respect to its logits for all items, over many batches.

    Each item's vector has its only 1 in a dimension of its own, so that the gradient with respect to the query vector
    is that with respect to the logits, divided by T. Row 0 is the query with the given target; the other targets are
    drawn by the target share, as in a shuffled epoch.
    """
    _, share = scene()
    rng = np.random.default_rng(5)
    batch, random = 64, 64
    total = torch.zeros(ITEMS)
    for _ in range(batches):
        targets = rng.choice(ITEMS, batch, p=share.double().numpy() / share.double().sum().item())
        targets[0] = target
        candidates = torch.from_numpy(np.concatenate([targets, rng.integers(0, ITEMS, random)]))
        query = torch.zeros(batch, ITEMS)
        query[0] = logits * TEMPERATURE
        query.requires_grad_()
        loss = sampled_softmax(
            query,
            torch.eye(ITEMS)[candidates],
            torch.full((batch,), ITEMS),  # the query is no candidate
            candidates,
            expected_counts(share, candidates, batch, random),
            SoftmaxOptions(TEMPERATURE, logq),
        )
        loss.backward()  # type: ignore[no-untyped-call]
        assert query.grad is not None
        total += query.grad[0] * batch * TEMPERATURE
    return total / batches


def bias(logq: LogQ, target: int) -> float:
    """Return the relative distance of the mean sampled gradient from the gradient of the full softmax."""
    logits, _ = scene()
    # Swap two logits, so that the target has half of the softmax's mass.
    logits[[0, target]] = logits[[target, 0]]
    full = torch.softmax(logits, 0)
    assert full[target] == pytest.approx(0.5)
    full[target] -= 1
    return float((mean_sampled_gradient(logq, target, logits) - full).norm() / full.norm())


@pytest.mark.parametrize("target", [0, ITEMS - 1], ids=["head target", "tail target"])
def test_correcting_the_negatives_alone_gives_the_full_softmax_gradient(target: int) -> None:
    assert bias("negatives", target) < 0.05


@pytest.mark.parametrize("target", [0, ITEMS - 1], ids=["head target", "tail target"])
@pytest.mark.parametrize("logq", ["all", "none"])
def test_correcting_all_logits_or_none_is_far_from_the_full_softmax(logq: LogQ, target: int) -> None:
    assert bias(logq, target) > 0.3


def test_the_oracle_measures_every_switch() -> None:
    assert get_args(LogQ) == ("negatives", "all", "none")


def by_hand(logq: LogQ) -> float:
    """Return the loss of two queries whose candidates are their targets 2 and 3, and a random item 4.

    The scores are 1, 0 and 1/2, divided by T = 1/2.
    """
    share = torch.tensor([0.0, 0.0, 0.5, 0.25, 0.25])
    candidates = torch.tensor([2, 3, 4])
    query = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    candidate = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, math.sqrt(0.75)]])
    counts = expected_counts(share, candidates, 2, 1)
    return float(sampled_softmax(query, candidate, torch.tensor([0, 1]), candidates, counts, SoftmaxOptions(0.5, logq)))


def test_the_loss_has_the_value_computed_by_hand() -> None:
    """The logits are 2, 0 and 1; the expected counts are 2·share + 1/5 = 1.2, 0.7 and 0.7."""
    e2, e1, e0 = math.exp(2), math.exp(1), 1.0
    raw = -(math.log(e2 / (e2 + e0 + e1)) + math.log(e0 / (e2 + e0 + e1))) / 2
    corrected = -(math.log(e2 / (e2 + (e0 + e1) / 0.7)) + math.log(e0 / (e2 / 1.2 + e0 + e1 / 0.7))) / 2
    every = e2 / 1.2 + e0 / 0.7 + e1 / 0.7
    everything = -(math.log(e2 / 1.2 / every) + math.log(e0 / 0.7 / every)) / 2
    assert by_hand("none") == pytest.approx(raw, rel=1e-5)
    assert by_hand("negatives") == pytest.approx(corrected, rel=1e-5)
    assert by_hand("all") == pytest.approx(everything, rel=1e-5)


def test_expected_counts_are_the_mean_number_of_draws() -> None:
    rng = np.random.default_rng(0)
    share = np.array([0.6, 0.3, 0.1, 0.0])
    drawn = [np.concatenate([rng.choice(4, 8, p=share), rng.integers(0, 4, 12)]) for _ in range(4000)]
    measured = np.bincount(np.concatenate(drawn), minlength=4) / 4000
    expected = expected_counts(torch.from_numpy(share.astype(np.float32)), torch.arange(4), 8, 12)
    np.testing.assert_allclose(expected.numpy(), measured, rtol=0.03)


@pytest.mark.parametrize("logq", get_args(LogQ))
def test_accidental_hits_do_not_count(logq: LogQ) -> None:
    """The query is item 7, its target item 1: the second 1 and the 7 among the candidates are not to be negatives."""
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, 4, generator=generator)
    candidate = torch.randn(5, 4, generator=generator)
    rows, counts = torch.tensor([1, 7, 2, 1, 3]), torch.tensor([0.5, 0.2, 0.3, 0.5, 0.1])
    clean = torch.tensor([0, 2, 4])
    with_hits = sampled_softmax(query, candidate, torch.tensor([7]), rows, counts, SoftmaxOptions(0.5, logq))
    without = sampled_softmax(
        query, candidate[clean], torch.tensor([7]), rows[clean], counts[clean], SoftmaxOptions(0.5, logq)
    )
    assert float(with_hits) == pytest.approx(float(without), rel=1e-6)


def test_masked_hits_leave_finite_gradients() -> None:
    query = torch.ones(2, 3, requires_grad=True)
    candidate = torch.eye(3)[[0, 0, 1]]
    rows = torch.tensor([1, 1, 2])  # nothing but hits for the second query, whose own row is 2
    loss = sampled_softmax(query, candidate, torch.tensor([0, 2]), rows, torch.ones(3), SoftmaxOptions(0.1))
    loss.backward()  # type: ignore[no-untyped-call]
    assert query.grad is not None
    assert torch.isfinite(query.grad).all()
    assert torch.equal(query.grad[1], torch.zeros(3)), "a query with no negative left has nothing to learn"


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("logq", get_args(LogQ))
def test_value_and_gradients_equal_plain_cross_entropy(logq: LogQ, members: int) -> None:
    """The reference writes out each member's softmax over its cosines, and takes the gradients from autograd."""
    generator = torch.Generator().manual_seed(members)
    rows = torch.tensor([5, 6, 7, 8]), torch.tensor([1, 2, 5, 1, 9, 6, 3])
    counts = torch.rand(7, generator=generator) + 0.1
    raw = [torch.randn(n, members, 4, generator=generator) for n in (4, 7)]
    fast, slow = ([part.clone().requires_grad_() for part in raw] for _ in range(2))
    query, candidate = (torch.nn.functional.normalize(part, dim=2) for part in fast)
    vectors = [part.reshape(len(part), -1) / math.sqrt(members) for part in (query, candidate)]
    loss = sampled_softmax(*vectors, *rows, counts, SoftmaxOptions(TEMPERATURE, logq, members))
    loss.backward()  # type: ignore[no-untyped-call]

    query, candidate = (torch.nn.functional.normalize(part, dim=2) for part in slow)
    losses = []
    for member in range(members):
        for i in range(4):
            logits = []
            for j in range(7):
                corrected = logq == "all" or (logq == "negatives" and j != i)
                if j == i or rows[1][j] not in (rows[0][i], rows[1][i]):
                    cosine = query[i, member] @ candidate[j, member]
                    logits.append(cosine / TEMPERATURE - (counts[j].log() if corrected else 0))
                if j == i:
                    positive = logits[-1]
            losses.append(torch.logsumexp(torch.stack(logits), 0) - positive)
    expected = torch.stack(losses).mean()
    expected.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(loss, expected)
    for a, b in zip(fast, slow, strict=True):
        torch.testing.assert_close(a.grad, b.grad)
