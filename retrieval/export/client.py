"""What a client of an export computes: the query vector, the bonuses of direct edges, and which ad of an item is shown.

`docs/export.md` has the same rules for other languages.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from retrieval.arrays import Floats
from retrieval.export.rows import EVERYWHERE


def query_vector(viewed: Floats, recency_weight: float) -> Floats:
    """Return the vector to search with: the mean of the viewed items' query vectors at length 1, with a 1 appended.

    The mean is weighted by recency:

        v = Σ w^age · q_age over the D first dimensions, where the most recent item has age 0
        query = (v / |v|, 1)

    Where the vectors cancel each other out, only the most recent item counts.

    Args:
        viewed: (V, D + 1) float32, the exported query vectors of the viewed items, most recent last; not empty. A
            request counts its last `recent_items` known items, and each item as often as it was viewed.
        recency_weight: w, weight of an item relative to the next more recent one.

    Returns:
        (D + 1,) float32.
    """
    age = np.arange(len(viewed))[::-1]
    mean = np.power(recency_weight, age) @ viewed[:, :-1]
    norm = np.linalg.norm(mean)
    direction = mean / norm if norm > 1e-6 else viewed[-1, :-1]
    return np.append(direction, 1.0).astype(np.float32)


def direct_bonuses(edges: Sequence[Sequence[Mapping[str, Any]]], recency_weight: float) -> dict[str, float]:
    """Return the bonus that direct edges from the viewed items add to the score of each item, by item_id.

        bonus(j) = Σ w^age · b_ij / Σ w^age, where b_ij is the exported bonus of the edge from the viewed item i

    Args:
        edges: the exported `direct` of each viewed item, most recent last.
        recency_weight: w, as in `query_vector`.
    """
    weights = np.power(recency_weight, np.arange(len(edges))[::-1])
    bonuses: dict[str, float] = {}
    for share, of_item in zip((weights / weights.sum()).tolist(), edges, strict=True):
        for edge in of_item:
            bonuses[edge["item_id"]] = bonuses.get(edge["item_id"], 0.0) + share * edge["bonus"]
    return bonuses


def winning_ad(
    ads: Sequence[Mapping[str, Any]],
    at: float,
    country: str | None = None,
    exclude_advertisers: Collection[str] = (),
    exclude_campaigns: Collection[str] = (),
) -> Mapping[str, Any] | None:
    """Return the ad that is shown for an item: the first one that may be shown, or None if there is none.

    Args:
        ads: the item's exported ads, in their order.
        at: the time in Unix seconds.
        country: an ISO 3166 alpha-2 code in upper case; None leaves out every ad that is limited to countries.
        exclude_advertisers: advertisers whose ads are left out.
        exclude_campaigns: campaigns whose ads are left out.
    """
    for ad in ads:
        runs = ad["starts_at"] <= at < ad["ends_at"]
        matches = EVERYWHERE in ad["countries"] or country in ad["countries"]
        excluded = ad["advertiser_id"] in exclude_advertisers or ad["campaign_id"] in exclude_campaigns
        if runs and matches and not excluded:
            return ad
    return None
