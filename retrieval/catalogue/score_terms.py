"""What counts beside the inner product of two embeddings, and how much.

    score(i → j) = z_i · z_j + prior · log(new_j / old_j) − popularity · log(1 + min(events_j, 10))
                   + direct · log(1 + w_ij) + revisit · [j was viewed before]

where new_j / old_j is how demand for j has moved lately (`model.prior`), events_j are j's training events, of which ten
make it as common as any, and w_ij is the weight of a strong-click edge from the viewed item. The middle two belong to
the candidate alone and are in the index; the last two hold for a handful.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retrieval.arrays import Floats, Rows
from retrieval.config import ScoreWeights

COMMON_EVENTS = 10
"""An item with this many events is no rare one: the popularity term grows no further, or the head pays for the tail."""


def item_bias(prior: Floats, events: Rows | NDArray[np.int64], weights: ScoreWeights) -> Floats:
    """(N,) float32: what is added to each item's scores as a candidate."""
    return (weights.prior * prior - weights.popularity * np.log1p(np.minimum(events, COMMON_EVENTS))).astype(np.float32)
