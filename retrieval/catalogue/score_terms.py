"""The score of an item for a viewed item, and the part of the score that depends only on the candidate.

    score(i → j) = z_i · z_j + prior · log(new_j / old_j) − popularity · log(1 + min(events_j, 10))
                   + direct · log(1 + w_ij) + revisit · [j was viewed before]

new_j / old_j is how demand for j has changed recently (`model.prior`). events_j is the number of j's training events;
events beyond ten make no difference. w_ij is the weight of a direct edge from the viewed item: a strong-click edge, or
a Swing edge if the graph has no strong clicks. The terms of the prior and of popularity depend only on the candidate;
the index stores their sum as the candidate's bias. The last two terms differ from 0 for few candidates.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retrieval.arrays import Floats, Rows
from retrieval.config import ScoreWeights

COMMON_EVENTS = 10
"""The popularity term is constant from this many events on; otherwise it would move the most common items the most."""


def item_bias(prior: Floats, events: Rows | NDArray[np.int64], weights: ScoreWeights) -> Floats:
    """Return each item's bias, which is added to every score that it gets as a candidate: (N,) float32.

    Args:
        prior: (N,) float32, log(new demand / old demand) of each item.
        events: (N,) int64, the training events of each item.
        weights: the weights of the score's terms.
    """
    return (weights.prior * prior - weights.popularity * np.log1p(np.minimum(events, COMMON_EVENTS))).astype(np.float32)
