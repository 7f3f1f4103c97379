"""Fits the weights of a pre-ranker to lists that retrieval returned and the items that shoppers opened from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from retrieval.arrays import Floats, Rows, offsets_from_lengths
from retrieval.errors import RetrievalError
from retrieval.ranking.reranker import Context, Counter, Reranker, raw_features, standardised

Loss = Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]


@dataclass(frozen=True, eq=False)
class TrainingLists:
    """L ranked lists, and the row that was opened from each.

    contexts: the requests. rows, scores: the candidate rows of each list, best first, and their retrieval scores.
    target (L,) int64: the position of the opened row in its list, −1 if it is not listed. weight (L,): the
    weight of each list; None = 1 each.
    """

    contexts: Sequence[Context]
    rows: Sequence[Rows]
    scores: Sequence[Floats]
    target: Rows
    weight: Floats | None = None


def fit(
    counters: Sequence[Counter],
    lists: TrainingLists,
    *,
    smoothing: float = 10.0,
    depth: int = 200,
    ridge: float = 1e-3,
) -> Reranker:
    """Fit a pre-ranker's weights.

    The loss is the softmax cross-entropy of each list over the rows that retrieval returned. No negatives are sampled,
    so no sampling has to be corrected for. The weight of the retrieval score is never negative.

    Args:
        counters: the counters to weigh, made from events earlier than those of the lists.
        lists: what retrieval returned, and what was opened; lists without their target are left out.
        smoothing: number of openings that are added to those of each query entity.
        depth: how many rows of a list the pre-ranker is to reorder.
        ridge: weight of the penalty on squared weights.

    Raises:
        RetrievalError: no list holds its target.
    """
    used = [number for number in range(len(lists.contexts)) if lists.target[number] >= 0]
    if not used:
        raise RetrievalError("nothing to fit a pre-ranker to: no list holds the item that was opened")
    raw = np.concatenate([raw_features(counters, lists.contexts[n], lists.rows[n], smoothing) for n in used])
    mean, deviation = _moments(raw)
    retrieval_score = np.concatenate([lists.scores[n] for n in used])
    scale = float(retrieval_score.std()) or 1.0
    features = np.column_stack([retrieval_score / scale, standardised(raw, mean, deviation)]).astype(np.float64)
    lengths = np.array([len(lists.rows[n]) for n in used])
    starts = offsets_from_lengths(lengths)[:-1]
    list_weight = np.ones(len(used)) if lists.weight is None else np.asarray(lists.weight, np.float64)[used]
    loss = _cross_entropy(features, starts, lengths, starts + lists.target[used], list_weight, ridge)
    initial = np.zeros(features.shape[1])
    initial[0] = 1.0
    # A higher retrieval score must never move a row down; if the retrieval score says nothing, its weight becomes 0.
    bounds = [(0.0, None)] + [(None, None)] * (len(initial) - 1)
    weight = minimize(loss, initial, jac=True, method="L-BFGS-B", bounds=bounds).x
    weight[0] /= scale
    return Reranker(tuple(counters), weight.astype(np.float32), mean, deviation, smoothing, depth)


def _moments(raw: Floats) -> tuple[Floats, Floats]:
    """Return the mean and the deviation of the known values of each feature: (F,) float32 each."""
    known = np.isfinite(raw).sum(axis=0)
    mean = np.where(known, np.nansum(raw, axis=0) / np.maximum(known, 1), 0).astype(np.float32)
    deviation = np.sqrt(np.nansum((raw - mean) ** 2, axis=0) / np.maximum(known, 1))
    return mean, np.where(deviation > 1e-6, deviation, 1).astype(np.float32)


def _cross_entropy(
    features: NDArray[np.float64],
    starts: Rows,
    lengths: Rows,
    target: Rows,
    list_weight: NDArray[np.float64],
    ridge: float,
) -> Loss:
    """Return the penalised softmax cross-entropy of the lists as a function of the weights, with its gradient."""

    def loss(weight: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = features @ weight
        logits -= np.repeat(np.maximum.reduceat(logits, starts), lengths)
        odds = np.exp(logits)
        total = np.add.reduceat(odds, starts)
        probability = odds * np.repeat(list_weight / total, lengths)
        gradient = features.T @ probability - list_weight @ features[target]
        value = list_weight @ (np.log(total) - logits[target])
        n = list_weight.sum()
        return float(value / n + ridge * weight @ weight), gradient / n + 2 * ridge * weight

    return loss
