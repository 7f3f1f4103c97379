"""What shoppers do: a walk from item page to item page, all sessions one step further at a time.

A step leads to an item related to the open one, to a search, to the category's list, back to the first item,
or, meaning nothing, somewhere else.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

from jobs.marketplace.catalogue import NEVER, Bools, Catalogue, Floats, Ints
from jobs.marketplace.config import MarketplaceConfig
from jobs.marketplace.queries import write_query
from jobs.marketplace.shoppers import Shoppers, Visits

TYPES = ("view", "click", "add_to_cart", "purchase", "search")
VIEW, CLICK, CART, PURCHASE, SEARCH = range(len(TYPES))
NONE = -1  # no item, source or query; a null in the table

BACK_SHARE, BROWSE_SHARE = 0.06, 0.1  # of the next steps; what is left goes to a related item
LANDING_SHARE, FIRST_SEARCH_SHARE = 0.45, 0.35  # of the first steps; what is left starts at a category's list
CANDIDATES = 16  # items of a category that are looked at before one is opened
STYLE_TASTE, PRICE_TASTE = 2.5, 0.5
CART_SHARE, PURCHASE_SHARE = 0.07, 0.4
MAX_OPENS = 40


@dataclass(frozen=True)
class Rows:
    """Log rows as arrays: position of the session, seconds since the first day; NONE where empty."""

    session: Ints
    seconds: Floats
    type: Ints
    item: Ints
    source: Ints
    query: Ints

    @classmethod
    def join(cls, parts: "list[Rows]") -> "Rows":
        columns = {f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)}
        return cls(**columns)

    def take(self, keep: Ints | Bools) -> "Rows":
        return Rows(**{f.name: getattr(self, f.name)[keep] for f in fields(self)})


def rows(
    session: Ints,
    seconds: Floats,
    kind: Ints | int,
    item: Ints | int,
    source: Ints | int = NONE,
    query: Ints | int = NONE,
) -> Rows:
    """Return rows with the scalars repeated for every session."""
    shape = session.shape
    kind, item, source, query = (np.broadcast_to(column, shape) for column in (kind, item, source, query))
    return Rows(session, seconds, kind, item, source, query)


class Walk:
    """The state of all sessions between two steps: one row a session that is still going on."""

    def __init__(
        self,
        config: MarketplaceConfig,
        catalogue: Catalogue,
        related: Ints,
        shoppers: Shoppers,
        visits: Visits,
        rng: np.random.Generator,
    ) -> None:
        self.config, self.catalogue, self.related, self.rng = config, catalogue, related, rng
        self.shoppers, self.visits = shoppers, visits
        self.log: list[Rows] = []
        self.session = np.arange(len(visits.day))
        self.clock = visits.start.copy()
        self.item = np.full(len(self.session), NONE)
        self.first = self.item.copy()
        self._cumulative = np.concatenate([[0.0], np.cumsum(catalogue.popularity * (catalogue.first_day < NEVER))])

    def run(self, progress: Callable[[str, float], None] | None = None) -> Rows:
        """Walk until nobody is left; return the rows in no particular order."""
        shares = np.cumsum([LANDING_SHARE, FIRST_SEARCH_SHARE, 1 - LANDING_SHARE - FIRST_SEARCH_SHARE])
        how = np.searchsorted(shares, self.rng.random(len(self.session)))
        self._open(how == 0, self._from_category(self._wish(), self._matches), VIEW)
        self._search(how == 1, self._wish())
        self._open(how == 2, self._from_category(self._wish(), self._matches), CLICK)
        self.first = self.item.copy()
        for step in range(1, MAX_OPENS):
            self._keep((self.rng.random(len(self.session)) < 1 - 1 / self.config.mean_opens) & (self.item != NONE))
            if not len(self.session):
                break
            self._step()
            if progress:
                progress(f"step {step} of the sessions", step / MAX_OPENS)
        return Rows.join(self.log)

    def _step(self) -> None:
        wander, search = self.config.wandering_share, self.config.search_share
        how = np.searchsorted(np.cumsum([wander, search, BACK_SHARE, BROWSE_SHARE]), self.rng.random(len(self.session)))
        leaf = self.catalogue.leaf[self.item]
        related = self._from_related()
        listed = self._from_category(leaf, self._matches)
        by_popularity = self._draw(np.zeros(len(leaf)), np.ones(len(leaf)))
        self._open(how == 0, by_popularity, CLICK)
        self._search(how == 1, np.where(self.rng.random(len(leaf)) < 0.6, leaf, self._wish()))
        self._open((how == 2) & (self.item != self.first), self.first, VIEW)
        self._open(how == 3, listed, CLICK)
        self._open(how == 4, related, CLICK, from_page=True)

    def _keep(self, going_on: Bools) -> None:
        self.session, self.clock = self.session[going_on], self.clock[going_on]
        self.item, self.first = self.item[going_on], self.first[going_on]

    # What to open

    def _wish(self) -> Ints:
        """The category somebody comes for: mostly a favourite."""
        favourites = self.shoppers.favourites[self.visits.shopper[self.session]]
        n = len(favourites)
        favourite = favourites[np.arange(n), self.rng.integers(favourites.shape[1], size=n)]
        anything = self.catalogue.leaf[self._draw(np.zeros(n), np.ones(n))]
        return np.where(self.rng.random(n) < 0.8, favourite, anything)

    def _draw(self, low: Floats, high: Floats) -> Ints:
        """Items by popularity, from the part of its cumulative sum between `low` and `high` (0 to 1)."""
        at = (low + (high - low) * self.rng.random(low.shape)) * self._cumulative[-1]
        return np.clip(np.searchsorted(self._cumulative, at, side="right") - 1, 0, len(self._cumulative) - 2)

    def _from_category(self, leaf: Ints, score: Callable[[Ints], Floats]) -> Ints:
        """One of CANDIDATES popular items of the category, the better its score the likelier."""
        edges = self._cumulative[self.catalogue.leaf_start] / self._cumulative[-1]
        low, high = (np.repeat(edges[at][:, None], CANDIDATES, 1) for at in (leaf, leaf + 1))
        return self._choose(self._draw(low, high), score)

    def _from_related(self) -> Ints:
        """One of the related items on the open page: its place in the list counts, and the taste."""
        shown = self.related[self.item]
        place = -0.6 * np.log1p(np.arange(shown.shape[1]))
        return self._choose(shown, lambda items: place + self._matches(items))

    def _matches(self, items: Ints) -> Floats:
        """How well items (sessions × candidates) suit the shoppers."""
        shopper = self.visits.shopper[self.session]
        style = np.einsum("sd,scd->sc", self.shoppers.style[shopper], self.catalogue.style[items])
        price = np.abs(self.shoppers.price_level[shopper][:, None] - self.catalogue.price_level[items])
        return STYLE_TASTE * style - PRICE_TASTE * price

    def _choose(self, items: Ints, score: Callable[[Ints], Floats]) -> Ints:
        """One item a row, with probability ~ exp(score) among those on sale and not open, else NONE."""
        day = self.visits.day[self.session][:, None]
        possible = self.catalogue.on_sale(items, day) & (items != self.item[:, None])
        keys = np.where(possible, score(items) + self.rng.gumbel(size=items.shape), -np.inf)
        best = keys.argmax(1)
        chosen = np.arange(len(items)), best
        return np.where(np.isfinite(keys[chosen]), items[chosen], NONE)

    # What the log says

    def _open(self, who: Bools, item: Ints, kind: int, from_page: bool = False, query: Ints | int = NONE) -> None:
        """Open `item` for the sessions in `who`; write the rows, and now and then a cart and a purchase."""
        who = who & (item != NONE) & (item != self.item)
        who &= self.catalogue.on_sale(np.maximum(item, 0), self.visits.day[self.session])
        at = np.flatnonzero(who)
        self.clock[at] += np.minimum(self.rng.lognormal(3.6, 0.9, len(at)), 1_200)
        session, clock, opened = self.session[at], self.clock[at], item[at]
        logs_source = self.visits.logs_source[session]
        # The old app logs nothing but page views.
        types = np.where(logs_source, kind, VIEW)
        source = np.where(logs_source & from_page, self.item[at], NONE)
        asked = np.broadcast_to(query, who.shape)[at]
        self.log.append(rows(session, clock, types, opened, source, asked))
        # Some pages report their view, too, a moment after the click that led to them.
        again = (types == CLICK) & (self.rng.random(len(at)) < 0.35)
        self.log.append(rows(session[again], clock[again] + 0.6, VIEW, opened[again]))
        self._buy(session, clock, opened)
        self.item[at] = opened

    def _buy(self, session: Ints, clock: Floats, item: Ints) -> None:
        carted = np.flatnonzero(self.rng.random(len(session)) < CART_SHARE)
        later = clock[carted] + self.rng.uniform(5, 40, len(carted))
        self.log.append(rows(session[carted], later, CART, item[carted]))
        bought = carted[self.rng.random(len(carted)) < PURCHASE_SHARE]
        later = clock[bought] + self.rng.uniform(60, 400, len(bought))
        self.log.append(rows(session[bought], later, PURCHASE, item[bought]))

    def _search(self, who: Bools, leaf: Ints) -> None:
        """Search for something in the category, and open one to three of the results that fit the words."""
        sought = self._from_category(leaf, self._matches)
        who = who & (sought != NONE)
        query = write_query(self.catalogue, np.maximum(sought, 0), self.rng)
        at = np.flatnonzero(who)
        self.clock[at] += self.rng.uniform(5, 30, len(at))
        self.log.append(rows(self.session[at], self.clock[at], SEARCH, NONE, query=query[at]))

        def fits(items: Ints) -> Floats:
            like = np.einsum("sd,scd->sc", self.catalogue.style[sought], self.catalogue.style[items])
            same_brand = self.catalogue.brand[items] == self.catalogue.brand[sought][:, None]
            fit: Floats = 4.0 * like + 1.0 * same_brand + 0.5 * self._matches(items)
            return fit

        self._open(who, sought, CLICK, query=query)
        for share in (0.45, 0.4):
            who = who & (self.rng.random(len(who)) < share)
            self._open(who, self._from_category(leaf, fits), CLICK, query=query)
