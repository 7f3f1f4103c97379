"""The marketplace's items: where each stands in a latent space of style, price and category.

What a shopper clicks next depends on the latent side (`related_items`); the item table shows it only in part.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jobs.marketplace.config import MarketplaceConfig
from jobs.marketplace.words import COLOURS, MATERIALS, STYLES, SYLLABLES, Leaf, leaves

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

STYLE_DIMS = 12
BRANDS = 240
RELATED = 48
NEVER = 10_000  # a day that does not come

# Where the items related to an item are: in its own category, in a sister category, in one that goes with it.
SAME, SISTER, COMPLEMENT = 0.5, 0.12, 0.38
STYLE_PULL, PRICE_PULL, POPULARITY_PULL = 5.0, 0.6, 0.6


@dataclass(frozen=True)
class Catalogue:
    """All items, sorted by leaf category; arrays have one row an item.

    `style` (items × STYLE_DIMS, unit length), `price_level` (about standard normal, within the category) and
    `leaf` are the latent position. An item is on sale on the days [first_day, last_day); the first day of a
    cold one never comes. `listed` items are in the item table.
    """

    leaves: tuple[Leaf, ...]
    leaf: Ints
    leaf_start: Ints
    brand: Ints
    style_group: Ints
    style: Floats
    price_level: Floats
    price: Floats
    popularity: Floats
    first_day: Ints
    last_day: Ints
    listed: Bools
    item_ids: npt.NDArray[np.str_]
    brand_names: npt.NDArray[np.str_]
    colour: Ints
    titles: list[str]

    def on_sale(self, items: Ints, day: Ints) -> Bools:
        return (self.first_day[items] <= day) & (day < self.last_day[items])


def build_catalogue(config: MarketplaceConfig, rng: np.random.Generator) -> Catalogue:
    """Draw the items: category, brand, style, price and popularity, and from them ids and titles."""
    tree, n = leaves(), config.items
    share = rng.lognormal(0.0, 0.6, len(tree))
    leaf = np.sort(rng.choice(len(tree), n, p=share / share.sum()))
    leaf_start = np.searchsorted(leaf, np.arange(len(tree) + 1))

    # A brand is at home in a few categories, has a price level and leans to a style.
    brand_names = _brand_names(rng)
    brand_home = rng.integers(len(tree), size=(BRANDS, 8))
    brand_level = rng.normal(0, 0.7, BRANDS)
    brand_style = rng.integers(len(STYLES), size=BRANDS)
    by_leaf = [np.flatnonzero((brand_home == i).any(1)) for i in range(len(tree))]
    by_leaf = [brands if len(brands) else np.arange(BRANDS) for brands in by_leaf]
    pick = rng.random(n) ** 1.7  # the first brands of a category sell more of its items
    brand = np.array([by_leaf[i][int(x * len(by_leaf[i]))] for i, x in zip(leaf, pick, strict=True)])

    style_group = np.where(rng.random(n) < 0.55, brand_style[brand], rng.integers(len(STYLES), size=n))
    centres = _unit(rng.normal(size=(len(STYLES), STYLE_DIMS)))
    style = _unit(centres[style_group] + rng.normal(0, 0.22, (n, STYLE_DIMS)))
    price_level = 0.8 * brand_level[brand] + rng.normal(0, 0.7, n)
    median = np.array([entry.median_price for entry in tree])[leaf]
    price = np.maximum(np.round(median * np.exp(0.45 * price_level)) - 0.01, 0.99)

    first_day, last_day, listed = _life_spans(config, rng)
    popularity = np.asarray((rng.permutation(n) + 8.0) ** -1.45, np.float64)  # Zipf–Mandelbrot
    fresh = (first_day > 0) & (first_day < NEVER)
    # News are shown around.
    popularity[fresh] = np.quantile(popularity, 0.5 + 0.45 * rng.random(int(fresh.sum())))
    popularity /= popularity.sum()

    favourite = rng.integers(len(COLOURS), size=(len(STYLES), 3))
    colour = np.where(
        rng.random(n) < 0.7,
        favourite[style_group, rng.integers(3, size=n)],
        rng.integers(len(COLOURS), size=n),
    )
    serial = rng.choice(np.arange(100_000, 1_000_000), n, replace=False)
    return Catalogue(
        leaves=tree,
        leaf=leaf,
        leaf_start=leaf_start,
        brand=brand,
        style_group=style_group,
        style=style,
        price_level=price_level,
        price=price,
        popularity=popularity,
        first_day=first_day,
        last_day=last_day,
        listed=listed,
        item_ids=np.array([f"i{number}" for number in serial]),
        brand_names=brand_names,
        colour=colour,
        titles=_titles(tree, leaf, brand_names[brand], style_group, colour, rng),
    )


def related_items(catalogue: Catalogue, rng: np.random.Generator) -> Ints:
    """Return the items shown on each item's page, best first: (items, RELATED).

    Drawn without replacement (Gumbel top-k), with weights from style, price, category and popularity:
    exp(STYLE_PULL · cos − PRICE_PULL · |Δ price level|) · popularity^POPULARITY_PULL · category pull.
    """
    pull = category_pull(catalogue)
    on_sale = catalogue.first_day < NEVER
    log_popularity = POPULARITY_PULL * np.log(catalogue.popularity)
    related = np.zeros((len(catalogue.leaf), RELATED), np.int64)
    for leaf in range(len(catalogue.leaves)):
        rows = np.arange(catalogue.leaf_start[leaf], catalogue.leaf_start[leaf + 1])
        pool = np.flatnonzero((pull[leaf] > 0)[catalogue.leaf] & on_sale)
        if not len(rows):
            continue
        score = STYLE_PULL * (catalogue.style[rows] @ catalogue.style[pool].T)
        score -= PRICE_PULL * np.abs(catalogue.price_level[rows, None] - catalogue.price_level[pool])
        score += log_popularity[pool] + np.log(pull[leaf, catalogue.leaf[pool]])
        score += rng.gumbel(size=score.shape)
        score[rows[:, None] == pool] = -np.inf
        shown = min(RELATED, len(pool) - 1)
        top = np.argpartition(-score, shown, axis=1)[:, :shown]
        order = np.argsort(-np.take_along_axis(score, top, 1), axis=1, kind="stable")
        best_first = pool[np.take_along_axis(top, order, 1)]
        related[rows] = best_first[:, np.arange(RELATED) % shown]  # a small category shows some twice
    return related


def category_pull(catalogue: Catalogue) -> Floats:
    """Return the pull of an item of one leaf category on a page of another: (from, to), 0 for none."""
    tree = catalogue.leaves
    same = np.eye(len(tree))
    parent = np.array([leaf.path.rpartition(" > ")[0] for leaf in tree])
    sister = (parent[:, None] == parent) & ~same.astype(bool)
    shared = np.array([[len(set(a.themes) & set(b.themes)) for b in tree] for a in tree], float)
    price = np.array([leaf.median_price for leaf in tree])
    # One goes from the phone to its case more often than from the case to a phone.
    complement = shared * (1 - same) * np.where(price <= price[:, None], 1.0, 0.4)
    size = np.maximum(np.diff(catalogue.leaf_start), 1)
    pull = np.zeros_like(same)
    for share, kind in ((SAME, same), (SISTER, sister), (COMPLEMENT, complement)):
        total = (kind * size).sum(1, keepdims=True)
        pull += share * np.divide(kind, total, out=np.zeros_like(same), where=total > 0)
    return pull


def items_table(catalogue: Catalogue) -> pa.Table:
    """Return the listed items as the input table `items`, in an order that tells nothing, with a few gaps."""
    rows = np.flatnonzero(catalogue.listed)
    rows = rows[np.argsort(catalogue.item_ids[rows])]
    paths = np.array([leaf.path for leaf in catalogue.leaves])
    no_name = catalogue.brand[rows] % 17 == 0  # some sellers leave the brand out
    return pa.table(
        {
            "item_id": pa.array(catalogue.item_ids[rows]),
            "category": pa.array(paths[catalogue.leaf[rows]]),
            "brand": pa.array(catalogue.brand_names[catalogue.brand[rows]], mask=no_name),
            "price": pa.array(catalogue.price[rows]),
            "title": pa.array([catalogue.titles[row] for row in rows]),
        }
    )


def _life_spans(config: MarketplaceConfig, rng: np.random.Generator) -> tuple[Ints, Ints, Bools]:
    kinds = ("usual", "cold", "last_day", "test_day", "delisted")
    shares = [config.cold_share, config.last_day_share, config.test_day_share, config.delisted_share]
    counts = [round(config.items * share) for share in shares]
    kind = rng.permutation(np.repeat(np.arange(5), [config.items - sum(counts), *counts]))
    usual = kind == kinds.index("usual")
    # One item in ten of the usual ones came during the log's days, the last day excepted.
    came = np.where(rng.random(config.items) < 0.1, rng.integers(1, max(config.days - 1, 2), config.items), 0)
    first = np.select([usual, kind == 1, kind == 2, kind == 3], [came, NEVER, config.days - 1, config.days], default=0)
    last = np.where(kind == kinds.index("delisted"), max(config.days // 2, 1), NEVER)
    return first, last, kind != kinds.index("delisted")


def _brand_names(rng: np.random.Generator) -> npt.NDArray[np.str_]:
    names: dict[str, None] = {}
    while len(names) < BRANDS:
        names["".join(rng.choice(SYLLABLES, 2 + rng.integers(2))).capitalize()] = None
    return np.array(list(names))


def _titles(
    tree: tuple[Leaf, ...],
    leaf: Ints,
    brand: npt.NDArray[np.str_],
    style_group: Ints,
    colour: Ints,
    rng: np.random.Generator,
) -> list[str]:
    """Titles as sellers write them: the noun, and some of brand, style, colour, material and model code."""
    n = len(leaf)
    departments = list(MATERIALS)
    department = np.array([departments.index(entry.path.split(" > ")[0]) for entry in tree])[leaf]
    likely = rng.integers(8, size=(len(departments), len(STYLES), 2))  # each style has two materials of eight
    material = likely[department, style_group, rng.integers(2, size=n)]
    word = rng.integers(3, size=n)
    noun = rng.random(n)
    model = rng.integers(100, 1000, n)
    told = rng.random((n, 5)) < (0.6, 0.75, 0.65, 0.5, 0.4)

    def title(i: int) -> str:
        nouns = tree[leaf[i]].nouns
        parts = (
            brand[i] if told[i, 0] else "",
            STYLES[style_group[i]][word[i]] if told[i, 1] else "",
            COLOURS[colour[i]] if told[i, 2] else "",
            MATERIALS[departments[department[i]]][material[i]] if told[i, 3] else "",
            nouns[int(noun[i] * len(nouns))],
            f"{brand[i][0]}{model[i]}" if told[i, 4] else "",
        )
        return " ".join(part for part in parts if part)

    return [title(i) for i in range(n)]


def _unit(vectors: Floats) -> Floats:
    unit: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit
