"""The marketplace's items: their category, brand, style, price, popularity and title.

The next click of a shopper depends on the hidden style and price level of the open item (`related.py`). The item table
shows these only in part, through the price and through words of the title.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jobs.marketplace.config import MarketplaceConfig
from jobs.marketplace.words import COLOURS, MATERIALS, STYLES, SYLLABLES, LeafCategory, leaf_categories

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

STYLE_DIMS = 12
BRANDS = 240
NEVER = 10_000  # a day that the log never reaches


@dataclass(frozen=True)
class Catalogue:
    """All items, sorted by leaf category; arrays have one row per item.

    `style` is an array items × STYLE_DIMS with rows of unit length. `price_level` is about standard normal within a
    category. `leaf` is a position in `leaves`, `style_group` one in STYLES, and `colour` one in COLOURS. `leaf_start`
    has the position of the first item of each leaf; its last entry is the number of items. An item is on sale on the
    days [first_day, last_day); the first_day of a cold item is NEVER. The item table has the items that are `listed`.
    """

    leaves: tuple[LeafCategory, ...]
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
        """Return whether each item is on sale on the day that `day` has for it."""
        return (self.first_day[items] <= day) & (day < self.last_day[items])


@dataclass(frozen=True)
class _Brands:
    """The brands, one row each: home categories, price level and preferred style."""

    names: npt.NDArray[np.str_]
    home_leaves: Ints
    price_level: Floats
    style_group: Ints

    @classmethod
    def draw(cls, leaves: int, rng: np.random.Generator) -> "_Brands":
        return cls(
            names=_brand_names(rng),
            home_leaves=rng.integers(leaves, size=(BRANDS, 8)),
            price_level=rng.normal(0, 0.7, BRANDS),
            style_group=rng.integers(len(STYLES), size=BRANDS),
        )

    def assign(self, leaf: Ints, leaves: int, rng: np.random.Generator) -> Ints:
        """The brand of each item: a brand that is at home in the item's leaf category, or any brand if none is."""
        by_leaf = [np.flatnonzero((self.home_leaves == i).any(1)) for i in range(leaves)]
        by_leaf = [brands if len(brands) else np.arange(BRANDS) for brands in by_leaf]
        pick = rng.random(len(leaf)) ** 1.7  # the first brands of a category sell more of its items
        return np.array([by_leaf[i][int(x * len(by_leaf[i]))] for i, x in zip(leaf, pick, strict=True)])


def build_catalogue(config: MarketplaceConfig, rng: np.random.Generator) -> Catalogue:
    """Draw all items: category, brand, style, price and popularity, then their ids and titles.

    Args:
        config: the number of items, and the shares of cold, new and delisted ones.
        rng: the source of random numbers. The order of the draws decides the result.
    """
    leaves, n = leaf_categories(), config.items
    leaf_share = rng.lognormal(0.0, 0.6, len(leaves))
    leaf = np.sort(rng.choice(len(leaves), n, p=leaf_share / leaf_share.sum()))
    brands = _Brands.draw(len(leaves), rng)
    brand = brands.assign(leaf, len(leaves), rng)
    style_group, style = _styles(brands.style_group[brand], rng)
    price_level = 0.8 * brands.price_level[brand] + rng.normal(0, 0.7, n)
    median_price = np.array([category.median_price for category in leaves])[leaf]
    first_day, last_day, listed = _life_spans(config, rng)
    popularity = _popularity(first_day, rng)
    colour = _colours(style_group, rng)
    serial = rng.choice(np.arange(100_000, 1_000_000), n, replace=False)
    return Catalogue(
        leaves=leaves,
        leaf=leaf,
        leaf_start=np.searchsorted(leaf, np.arange(len(leaves) + 1)),
        brand=brand,
        style_group=style_group,
        style=style,
        price_level=price_level,
        price=np.maximum(np.round(median_price * np.exp(0.45 * price_level)) - 0.01, 0.99),
        popularity=popularity,
        first_day=first_day,
        last_day=last_day,
        listed=listed,
        item_ids=np.array([f"i{number}" for number in serial]),
        brand_names=brands.names,
        colour=colour,
        titles=_titles(leaves, leaf, brands.names[brand], style_group, colour, rng),
    )


def items_table(catalogue: Catalogue) -> pa.Table:
    """Return the input table `items`: the listed items, sorted by their random ids; some items have no brand."""
    rows = np.flatnonzero(catalogue.listed)
    rows = rows[np.argsort(catalogue.item_ids[rows])]
    paths = np.array([leaf.path for leaf in catalogue.leaves])
    without_brand = catalogue.brand[rows] % 17 == 0
    return pa.table(
        {
            "item_id": pa.array(catalogue.item_ids[rows]),
            "category": pa.array(paths[catalogue.leaf[rows]]),
            "brand": pa.array(catalogue.brand_names[catalogue.brand[rows]], mask=without_brand),
            "price": pa.array(catalogue.price[rows]),
            "title": pa.array([catalogue.titles[row] for row in rows]),
        }
    )


def _brand_names(rng: np.random.Generator) -> npt.NDArray[np.str_]:
    names: dict[str, None] = {}
    while len(names) < BRANDS:
        names["".join(rng.choice(SYLLABLES, 2 + rng.integers(2))).capitalize()] = None
    return np.array(list(names))


def _styles(brand_style: Ints, rng: np.random.Generator) -> tuple[Ints, Floats]:
    """Each item's style group, which mostly is that of its brand, and its style vector near the group's centre."""
    n = len(brand_style)
    group = np.where(rng.random(n) < 0.55, brand_style, rng.integers(len(STYLES), size=n))
    centres = _unit(rng.normal(size=(len(STYLES), STYLE_DIMS)))
    return group, _unit(centres[group] + rng.normal(0, 0.22, (n, STYLE_DIMS)))


def _life_spans(config: MarketplaceConfig, rng: np.random.Generator) -> tuple[Ints, Ints, Bools]:
    """Each item's first day, the day after its last day, and whether the item is listed."""
    kinds = ("usual", "cold", "last_day", "test_day", "delisted")
    shares = [config.cold_share, config.last_day_share, config.test_day_share, config.delisted_share]
    counts = [round(config.items * share) for share in shares]
    kind = rng.permutation(np.repeat(np.arange(5), [config.items - sum(counts), *counts]))
    usual = kind == kinds.index("usual")
    # One in ten of the usual items appeared during the log, but before its last day.
    appeared = np.where(rng.random(config.items) < 0.1, rng.integers(1, max(config.days - 1, 2), config.items), 0)
    first = np.select(
        [usual, kind == 1, kind == 2, kind == 3], [appeared, NEVER, config.days - 1, config.days], default=0
    )
    last = np.where(kind == kinds.index("delisted"), max(config.days // 2, 1), NEVER)
    return first, last, kind != kinds.index("delisted")


def _popularity(first_day: Ints, rng: np.random.Generator) -> Floats:
    """Zipf–Mandelbrot weights that sum to 1; new items belong to the popular half, because shops promote them."""
    n = len(first_day)
    popularity = np.asarray((rng.permutation(n) + 8.0) ** -1.45, np.float64)
    new = (first_day > 0) & (first_day < NEVER)
    popularity[new] = np.quantile(popularity, 0.5 + 0.45 * rng.random(int(new.sum())))
    popularity /= popularity.sum()
    return popularity


def _colours(style_group: Ints, rng: np.random.Generator) -> Ints:
    """A colour for each item: mostly one of the three favourite colours of its style."""
    n = len(style_group)
    favourites = rng.integers(len(COLOURS), size=(len(STYLES), 3))
    return np.where(
        rng.random(n) < 0.7,
        favourites[style_group, rng.integers(3, size=n)],
        rng.integers(len(COLOURS), size=n),
    )


def _titles(
    leaves: tuple[LeafCategory, ...],
    leaf: Ints,
    brand: npt.NDArray[np.str_],
    style_group: Ints,
    colour: Ints,
    rng: np.random.Generator,
) -> list[str]:
    """Titles as sellers write them: a noun, and often also brand, style, colour, material or model code."""
    n = len(leaf)
    departments = list(MATERIALS)
    department = np.array([departments.index(category.path.split(" > ")[0]) for category in leaves])[leaf]
    # In each department, a style uses two of the eight materials.
    style_materials = rng.integers(8, size=(len(departments), len(STYLES), 2))
    material = style_materials[department, style_group, rng.integers(2, size=n)]
    style_word = rng.integers(3, size=n)
    noun = rng.random(n)
    model_code = rng.integers(100, 1000, n)
    present = rng.random((n, 5)) < (0.6, 0.75, 0.65, 0.5, 0.4)

    def title(i: int) -> str:
        nouns = leaves[leaf[i]].nouns
        parts = (
            brand[i] if present[i, 0] else "",
            STYLES[style_group[i]][style_word[i]] if present[i, 1] else "",
            COLOURS[colour[i]] if present[i, 2] else "",
            MATERIALS[departments[department[i]]][material[i]] if present[i, 3] else "",
            nouns[int(noun[i] * len(nouns))],
            f"{brand[i][0]}{model_code[i]}" if present[i, 4] else "",
        )
        return " ".join(part for part in parts if part)

    return [title(i) for i in range(n)]


def _unit(vectors: Floats) -> Floats:
    unit: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit
