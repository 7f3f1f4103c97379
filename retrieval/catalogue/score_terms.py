"""The score of an item for a viewed item, and its part that depends only on the candidate.

    score(i → j) = z_i · z_j + prior · log(new_j / old_j) − popularity · log(1 + min(events_j, 10))
                   + direct · log(1 + w_ij) + revisit · [j was viewed before]

new_j / old_j is how demand for j has changed recently (`model.prior`). events_j is the number of j's training events;
ten make an item as common as any. w_ij is the weight of a strong-click edge from the viewed item. The terms of the
prior and of popularity depend only on the candidate and are stored in the index as its bias. The last two terms differ
from 0 for few candidates.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retrieval.arrays import Floats, Rows
from retrieval.config import ScoreWeights

COMMON_EVENTS = 10
"""From this many events on the popularity term is constant; otherwise the most common items would pay for the tail."""


def item_bias(prior: Floats, events: Rows | NDArray[np.int64], weights: ScoreWeights) -> Floats:
    """Return what is added to all scores of each item as a candidate: (N,) float32.

    Args:
        prior: (N,) float32, log(new / old) of the demand for each item.
        events: (N,) int64, the training events of each item.
        weights: the weights of the score's terms.
    """
    return (weights.prior * prior - weights.popularity * np.log1p(np.minimum(events, COMMON_EVENTS))).astype(np.float32)
