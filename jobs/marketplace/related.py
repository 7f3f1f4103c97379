"""Related items: the items that the marketplace shows on each item's page, from which shoppers choose their next click.

Their choice depends on the hidden style and price level of items, which the item table shows only in part.
"""

import numpy as np

from jobs.marketplace.catalogue import NEVER, Catalogue, Floats, Ints

RELATED = 48  # items on a page

# The shares of a page that come from the item's own category, from its sister categories, and from complementary ones.
SAME_SHARE, SISTER_SHARE, COMPLEMENT_SHARE = 0.5, 0.12, 0.38
STYLE_WEIGHT, PRICE_WEIGHT, POPULARITY_WEIGHT = 5.0, 0.6, 0.6


def related_items(catalogue: Catalogue, rng: np.random.Generator) -> Ints:
    """Return the positions of the items shown on each item's page, best first: (items, RELATED).

    They are drawn without replacement (Gumbel top-k), with probabilities proportional to
    exp(STYLE_WEIGHT · cos − PRICE_WEIGHT · |Δ price level|) · popularity^POPULARITY_WEIGHT · category weight.

    Args:
        catalogue: all items.
        rng: the source of random numbers.
    """
    weights = category_weights(catalogue)
    on_sale = catalogue.first_day < NEVER
    log_popularity = POPULARITY_WEIGHT * np.log(catalogue.popularity)
    related = np.zeros((len(catalogue.leaf), RELATED), np.int64)
    for leaf in range(len(catalogue.leaves)):
        rows = np.arange(catalogue.leaf_start[leaf], catalogue.leaf_start[leaf + 1])
        pool = np.flatnonzero((weights[leaf] > 0)[catalogue.leaf] & on_sale)
        if not len(rows):
            continue
        score = STYLE_WEIGHT * (catalogue.style[rows] @ catalogue.style[pool].T)
        score -= PRICE_WEIGHT * np.abs(catalogue.price_level[rows, None] - catalogue.price_level[pool])
        score += log_popularity[pool] + np.log(weights[leaf, catalogue.leaf[pool]])
        score += rng.gumbel(size=score.shape)
        score[rows[:, None] == pool] = -np.inf
        shown = min(RELATED, len(pool) - 1)
        top = np.argpartition(-score, shown, axis=1)[:, :shown]
        order = np.argsort(-np.take_along_axis(score, top, 1), axis=1, kind="stable")
        best_first = pool[np.take_along_axis(top, order, 1)]
        related[rows] = best_first[:, np.arange(RELATED) % shown]  # pages of a small category repeat some items
    return related


def category_weights(catalogue: Catalogue) -> Floats:
    """Return the weight of each leaf's items on each leaf's pages: (leaf of page, leaf of item), 0 = never shown."""
    leaves = catalogue.leaves
    same = np.eye(len(leaves))
    parent = np.array([leaf.path.rpartition(" > ")[0] for leaf in leaves])
    sister = (parent[:, None] == parent) & ~same.astype(bool)
    shared_themes = np.array([[len(set(a.themes) & set(b.themes)) for b in leaves] for a in leaves], float)
    price = np.array([leaf.median_price for leaf in leaves])
    # A shopper goes from a phone to a case more often than from a case to a phone.
    complement = shared_themes * (1 - same) * np.where(price <= price[:, None], 1.0, 0.4)
    size = np.maximum(np.diff(catalogue.leaf_start), 1)
    weights = np.zeros_like(same)
    for share, kind in ((SAME_SHARE, same), (SISTER_SHARE, sister), (COMPLEMENT_SHARE, complement)):
        total = (kind * size).sum(1, keepdims=True)
        weights += share * np.divide(kind, total, out=np.zeros_like(same), where=total > 0)
    return weights
