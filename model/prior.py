"""How demand has moved since the training pairs were made: the shift of the targets' prior.

A model of P(target | query) carries the targets' shares over the whole training window. Where those have moved, the
posterior under the new shares is p(j | i) · new_j / old_j up to a constant (Saerens, Latinne & Decaestecker 2002), so
that a score s_ij / T wants log(new_j / old_j) added. The share of the last days is counted, and shrunk towards "as
before" where there is little to count.
"""

import numpy as np
from numpy.typing import NDArray

from model.config import PriorConfig


def prior_shift(
    targets: NDArray[np.integer], age: NDArray[np.floating], num_items: int, config: PriorConfig
) -> NDArray[np.float32]:
    """log (recent + c) / (expected + c) of every item; 0 where nothing moved, and for items that are no target.

        recent_j = Σ 2^(−age / half-life) over the pairs with target j,  expected_j = n_j · Σ recent / Σ n

    Args:
        targets: (P,) item rows; age: (P,) days before the latest pair, ≥ 0
    Returns:
        (N,) float32
    """
    if len(targets) == 0:
        return np.zeros(num_items, np.float32)
    weight = np.exp2(-age.astype(np.float64) / config.half_life_days)
    recent = np.bincount(targets, weight, minlength=num_items)
    expected = np.bincount(targets, minlength=num_items) * (weight.sum() / len(targets))
    shift = np.log((recent + config.pseudo_count) / (expected + config.pseudo_count))
    return shift.astype(np.float32)
