"""Sampled softmax over in-batch and random negatives, with the logQ correction.

The loss of query i, with its target among B in-batch and K random candidates, is the cross-entropy over s_ij / T. With
the correction, a candidate j that is drawn q_j times per batch on average has the logit s_ij / T − log q_j (Bengio &
Senécal 2008; Yi et al., RecSys 2019). By default only negatives are corrected: the gradient then equals that of the
full softmax to within a percent. Correcting the target too would bias the gradient.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from model.matryoshka import nested_loss

LogQ = Literal["negatives", "all", "none"]


@dataclass(frozen=True)
class SoftmaxOptions:
    """How scores become a loss.

    Args:
        temperature: T > 0, by which cosines are divided
        logq: the candidates whose logits are corrected: the negatives, all, or none
        members: M networks side by side, each with a softmax of its own over the cosines of its D / M dimensions
        prefixes: sizes of the Matryoshka prefixes that are trained too, each below D; needs members = 1
    """

    temperature: float
    logq: LogQ = "negatives"
    members: int = 1
    prefixes: tuple[int, ...] = ()


def expected_counts(target_share: Tensor, candidates: Tensor, batch: int, random: int) -> Tensor:
    """Return (C,) float32: how often each candidate is drawn on average.

    Args:
        target_share: (N,) float32, each item's share of the training targets
        candidates: (C,) int64 item rows
        batch: number of targets in the batch
        random: number of random negatives, drawn uniformly
    """
    return batch * target_share[candidates] + random / len(target_share)


def sampled_softmax(
    query: Tensor,
    candidate: Tensor,
    query_rows: Tensor,
    candidate_rows: Tensor,
    counts: Tensor,
    options: SoftmaxOptions,
) -> Tensor:
    """Return the mean loss of a batch over all members, a scalar.

    A negative that is the query itself or its target is an accidental hit, and is masked.

    Args:
        query: (B, D); each member's part has length 1/√M, as LightSAGE returns it
        candidate: (B + K, D), lengths as in `query`; the first B are the queries' targets, in order
        query_rows: (B,) int64 item rows of the queries
        candidate_rows: (B + K,) int64 item rows of the candidates
        counts: (B + K,) float32, see `expected_counts`
        options: temperature, logQ correction, members and prefixes
    """
    b = len(query)
    diagonal = torch.arange(b, device=query.device)
    hit = (candidate_rows[None, :] == candidate_rows[:b, None]) | (candidate_rows[None, :] == query_rows[:, None])
    correction = query.new_zeros(b, len(candidate)) if options.logq == "none" else (-counts.log()).repeat(b, 1)
    correction.masked_fill_(hit, -torch.inf)
    correction[diagonal, diagonal] = -counts[:b].log() if options.logq == "all" else 0.0
    members, scale = options.members, options.members / options.temperature

    def loss(query: Tensor, candidate: Tensor) -> Tensor:
        parts = [vectors.view(len(vectors), members, -1).transpose(0, 1) for vectors in (query, candidate)]
        mean: Tensor = _CrossEntropy.apply(*parts, correction, scale)  # type: ignore[no-untyped-call]
        return mean

    return nested_loss(loss, query, candidate, options.prefixes)


class _CrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of (M, B, d) queries, whose targets are the first B of (M, C, d) candidates.

    Value and gradients are computed together, member by member, in one buffer that stays in the CPU cache. This takes
    half the time of plain autograd, which keeps the logits and softmaxes of all members.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, candidate: Tensor, correction: Tensor, scale: float) -> Tensor:
        query_gradient, candidate_gradient = torch.empty_like(query), torch.empty_like(candidate)
        logits, loss = torch.empty_like(correction), correction.new_zeros(())
        for member, (q, c) in enumerate(zip(query, candidate, strict=True)):
            torch.addmm(correction, q, c.T, alpha=scale, out=logits)
            positive, top = logits.diagonal().clone(), logits.amax(dim=1, keepdim=True)
            total = logits.sub_(top).exp_().sum(dim=1, keepdim=True)
            loss += ((total.log() + top).squeeze(1) - positive).mean()
            logits.div_(total).diagonal().sub_(1)  # softmax − one-hot target: the gradient with respect to the logits
            torch.mm(logits, c, out=query_gradient[member])
            torch.mm(logits.T, q, out=candidate_gradient[member])
        weight = scale / (query.shape[0] * query.shape[1])
        ctx.save_for_backward(query_gradient.mul_(weight), candidate_gradient.mul_(weight))
        return loss / len(query)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor, None, None]:
        query_gradient, candidate_gradient = ctx.saved_tensors
        return outer[0] * query_gradient, outer[0] * candidate_gradient, None, None
