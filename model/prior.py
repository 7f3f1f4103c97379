"""How demand has moved during the training window: the shift of the targets' prior.

A model of P(target | query) contains the targets' shares over the whole training window. Where the shares have moved,
the posterior under the new shares is p(j | i) · new_j / old_j up to a constant (Saerens, Latinne & Decaestecker 2002),
so that log(new_j / old_j) is added to a score s_ij / T. The new shares count recent pairs more than older ones, and
are shrunk towards the old shares where there are few events.
"""

import numpy as np
from numpy.typing import NDArray

from model.config import PriorConfig


def prior_shift(
    targets: NDArray[np.integer], age: NDArray[np.floating], num_items: int, config: PriorConfig
) -> NDArray[np.float32]:
    """Return (N,) float32 log (recent + c) / (expected + c); 0 for an item that is no target or has an unchanged share.

        recent_j = Σ 2^(−age / half-life) over the pairs with target j,  expected_j = n_j · Σ recent / Σ n

    Args:
        targets: (P,) item rows
        age: (P,) days before the latest pair, ≥ 0
        num_items: N
        config: half-life and pseudo-count c
    """
    if len(targets) == 0:
        return np.zeros(num_items, np.float32)
    weight = np.exp2(-age.astype(np.float64) / config.half_life_days)
    recent = np.bincount(targets, weight, minlength=num_items)
    expected = np.bincount(targets, minlength=num_items) * (weight.sum() / len(targets))
    shift = np.log((recent + config.pseudo_count) / (expected + config.pseudo_count))
    return shift.astype(np.float32)
