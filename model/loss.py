"""Sampled softmax over in-batch and random negatives, with the logQ correction.

The loss of query i with target i among B in-batch and M random candidates is cross-entropy over s_ij / T, where a
candidate j that is drawn with expected count q_j enters as s_ij / T − log q_j (Bengio & Senécal 2008; Yi et al., RecSys
2019). With the positive left raw the gradient is the full softmax's to within a percent; correcting it too biases it.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from model.matryoshka import nested

LogQ = Literal["negatives", "all", "none"]


def expected_counts(target_share: Tensor, candidates: Tensor, batch: int, random: int) -> Tensor:
    """(C,) float32: how often each candidate is expected among `batch` targets and `random` uniform draws.

    Args:
        target_share: (N,) float32, each item's share of the training targets
        candidates: (C,) int64 item rows
    """
    return batch * target_share[candidates] + random / len(target_share)


def sampled_softmax(
    query: Tensor,
    candidate: Tensor,
    query_rows: Tensor,
    candidate_rows: Tensor,
    counts: Tensor,
    temperature: float,
    logq: LogQ = "negatives",
    members: int = 1,
    prefixes: Sequence[int] = (),
) -> Tensor:
    """Mean loss of a batch over all members, each with a softmax of its own over the cosines of its part.

    Args:
        query: (B, D); candidate: (B + K, D), the first B are the targets in order; of each member's D / M dimensions
            the length is 1/√M, as LightSAGE gives them
        query_rows: (B,) int64; candidate_rows: (B + K,) int64 item rows: a negative that is the query itself or its
            target is an accidental hit, and masked
        counts: (B + K,) float32 of `expected_counts`
        temperature: T > 0
        logq: which logits are corrected
        prefixes: sizes of Matryoshka prefixes, each below D, that have to do as well; with one member alone
    Returns:
        scalar
    """
    b = len(query)
    diagonal = torch.arange(b, device=query.device)
    hit = (candidate_rows[None, :] == candidate_rows[:b, None]) | (candidate_rows[None, :] == query_rows[:, None])
    correction = query.new_zeros(b, len(candidate)) if logq == "none" else (-counts.log()).repeat(b, 1)
    correction.masked_fill_(hit, -torch.inf)
    correction[diagonal, diagonal] = -counts[:b].log() if logq == "all" else 0.0

    def loss(query: Tensor, candidate: Tensor) -> Tensor:
        parts = [vectors.view(len(vectors), members, -1).transpose(0, 1) for vectors in (query, candidate)]
        found: Tensor = _CrossEntropy.apply(*parts, correction, members / temperature)  # type: ignore[no-untyped-call]
        return found

    return nested(loss, query, candidate, prefixes)


class _CrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of (M, B, d) queries with the first B of (M, K, d) candidates.

    Value and gradients are made in one go, member by member in one buffer that stays in the cache: half the time of
    autograd's way, which keeps all members' logits and softmaxes.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, candidate: Tensor, correction: Tensor, scale: float) -> Tensor:
        to_query, to_candidate = torch.empty_like(query), torch.empty_like(candidate)
        logits, loss = torch.empty_like(correction), correction.new_zeros(())
        for member, (q, c) in enumerate(zip(query, candidate, strict=True)):
            torch.addmm(correction, q, c.T, alpha=scale, out=logits)
            positive, top = logits.diagonal().clone(), logits.amax(dim=1, keepdim=True)
            total = logits.sub_(top).exp_().sum(dim=1, keepdim=True)
            loss += ((total.log() + top).squeeze(1) - positive).mean()
            logits.div_(total).diagonal().sub_(1)  # softmax − target: the gradient of the logits
            torch.mm(logits, c, out=to_query[member])
            torch.mm(logits.T, q, out=to_candidate[member])
        share = scale / (query.shape[0] * query.shape[1])
        ctx.save_for_backward(to_query.mul_(share), to_candidate.mul_(share))
        return loss / len(query)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor, None, None]:
        to_query, to_candidate = ctx.saved_tensors
        return outer[0] * to_query, outer[0] * to_candidate, None, None
