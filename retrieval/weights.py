"""What counts beside the inner product of two embeddings, and how much.

    score(i → j) = z_i · z_j + prior · log(new_j / old_j) − popularity · log(1 + events_j) + direct · log(1 + w_ij)

where new_j / old_j is how demand for j has moved lately (`model.prior`), and w_ij the weight of a strong-click edge
from the viewed item. The middle two belong to the candidate alone and are in the index; the last holds for a handful.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .config import ScoreWeights
from .exact import Floats, Rows


def item_bias(prior: Floats, events: Rows | NDArray[np.int64], weights: ScoreWeights) -> Floats:
    """(N,) float32: what is added to each item's scores as a candidate."""
    return (weights.prior * prior - weights.popularity * np.log1p(events)).astype(np.float32)
