"""Sampled softmax over in-batch and random negatives, with the logQ correction.

The loss of query i with target i among B in-batch and M random candidates is cross-entropy over s_ij / T, where a
candidate j that is drawn with expected count q_j enters as s_ij / T − log q_j (Bengio & Senécal 2008; Yi et al., RecSys
2019). With the positive left raw the gradient is the full softmax's to within a percent; correcting it too biases it.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

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
) -> Tensor:
    """Mean loss of a batch.

    Args:
        query: (B, D); candidate: (B + M, D), the first B are the targets in order; both L2-normalised
        query_rows: (B,) int64; candidate_rows: (B + M,) int64 item rows: a negative that is the query itself or its
            target is an accidental hit, and masked
        counts: (B + M,) float32 of `expected_counts`
        temperature: T > 0
        logq: which logits are corrected
    Returns:
        scalar
    """
    b = len(query)
    logits = query @ candidate.T / temperature
    diagonal = torch.arange(b)
    positive = logits[diagonal, diagonal]
    if logq != "none":
        logits = logits - counts.log()
    hit = (candidate_rows[None, :] == candidate_rows[:b, None]) | (candidate_rows[None, :] == query_rows[:, None])
    logits = logits.masked_fill(hit, -torch.inf)
    logits = logits.index_put((diagonal, diagonal), positive - counts[:b].log() if logq == "all" else positive)
    return F.cross_entropy(logits, diagonal)
