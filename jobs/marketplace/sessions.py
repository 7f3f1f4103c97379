"""The marketplace's shopping sessions, simulated step by step for all sessions at once.

In each step, a shopper opens an item related to the open one, searches, opens an item from the list of the category,
goes back to the first item, or opens an unrelated item.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

from jobs.marketplace.catalogue import NEVER, Bools, Catalogue, Floats, Ints
from jobs.marketplace.config import MarketplaceConfig
from jobs.marketplace.queries import draw_queries
from jobs.marketplace.shoppers import Shoppers, Visits
from jobs.progress import ProgressCallback

EVENT_TYPES = ("view", "click", "add_to_cart", "purchase", "search")
VIEW, CLICK, CART, PURCHASE, SEARCH = range(len(EVENT_TYPES))
NONE = -1  # no item, source or query; a null in the table

BACK_SHARE, BROWSE_SHARE = 0.06, 0.1  # shares of the next steps; most other steps open a related item
LANDING_SHARE, FIRST_SEARCH_SHARE = 0.45, 0.35  # shares of the first steps; the rest begins in a category's list
CANDIDATES = 16  # items of a category that a shopper considers before opening one
STYLE_TASTE, PRICE_TASTE = 2.5, 0.5
CART_SHARE, PURCHASE_SHARE = 0.07, 0.4
MAX_OPENS = 40


@dataclass(frozen=True)
class LogRows:
    """Rows of the log as arrays, with NONE where a cell is empty.

    `seconds` counts from the start of the first day. `query` holds codes of queries, and the other arrays positions.
    """

    session: Ints
    seconds: Floats
    type: Ints
    item: Ints
    source: Ints
    query: Ints

    @classmethod
    def concatenate(cls, parts: "list[LogRows]") -> "LogRows":
        """The rows of all parts, in their order."""
        columns = {f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)}
        return cls(**columns)

    def take(self, selection: Ints | Bools) -> "LogRows":
        """The selected rows; `selection` holds positions or one truth value per row."""
        return LogRows(**{f.name: getattr(self, f.name)[selection] for f in fields(self)})


def log_rows(
    session: Ints,
    seconds: Floats,
    kind: Ints | int,
    item: Ints | int,
    source: Ints | int = NONE,
    query: Ints | int = NONE,
) -> LogRows:
    """Return one row for each entry of `session`; if a column is a scalar, all rows get it.

    Args:
        session: positions of the sessions.
        seconds: times since the start of the first day.
        kind: event types, as positions in EVENT_TYPES.
        item: positions of the items.
        source: positions of the items on whose pages the clicks were made.
        query: codes of the queries that led to the items.
    """
    shape = session.shape
    kind, item, source, query = (np.broadcast_to(column, shape) for column in (kind, item, source, query))
    return LogRows(session, seconds, kind, item, source, query)


class SessionSimulator:
    """Simulates all sessions of the visits.

    Between two steps, its arrays have one row for each session that has not ended: the session's position in the visits
    (`session`), its time (`clock`), the item that is open (`item`) and its first item (`first`).
    """

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
        self.log: list[LogRows] = []
        self.session = np.arange(len(visits.day))
        self.clock = visits.start.copy()
        self.item = np.full(len(self.session), NONE)
        self.first = self.item.copy()
        self._cumulative = np.concatenate([[0.0], np.cumsum(catalogue.popularity * (catalogue.first_day < NEVER))])

    def run(self, progress: ProgressCallback | None = None) -> LogRows:
        """Simulate until every session has ended, and return the rows in no particular order."""
        shares = np.cumsum([LANDING_SHARE, FIRST_SEARCH_SHARE, 1 - LANDING_SHARE - FIRST_SEARCH_SHARE])
        action = np.searchsorted(shares, self.rng.random(len(self.session)))
        self._open(action == 0, self._from_category(self._desired_category(), self._taste), VIEW)
        self._search(action == 1, self._desired_category())
        self._open(action == 2, self._from_category(self._desired_category(), self._taste), CLICK)
        self.first = self.item.copy()
        for step in range(1, MAX_OPENS):
            going_on = self.rng.random(len(self.session)) < 1 - 1 / self.config.mean_opens
            self._continue_with(going_on & (self.item != NONE))
            if not len(self.session):
                break
            self._step()
            if progress:
                progress(f"simulating step {step} of the sessions", step / MAX_OPENS)
        return LogRows.concatenate(self.log)

    def _step(self) -> None:
        shares = np.cumsum([self.config.wandering_share, self.config.search_share, BACK_SHARE, BROWSE_SHARE])
        action = np.searchsorted(shares, self.rng.random(len(self.session)))
        leaf = self.catalogue.leaf[self.item]
        related = self._from_related()
        listed = self._from_category(leaf, self._taste)
        unrelated = self._by_popularity(np.zeros(len(leaf)), np.ones(len(leaf)))
        self._open(action == 0, unrelated, CLICK)
        self._search(action == 1, np.where(self.rng.random(len(leaf)) < 0.6, leaf, self._desired_category()))
        self._open((action == 2) & (self.item != self.first), self.first, VIEW)
        self._open(action == 3, listed, CLICK)
        self._open(action == 4, related, CLICK, source=self.item)

    def _continue_with(self, sessions: Bools) -> None:
        self.session, self.clock = self.session[sessions], self.clock[sessions]
        self.item, self.first = self.item[sessions], self.first[sessions]

    # Choosing an item

    def _desired_category(self) -> Ints:
        """The leaf category from which each shopper wants an item: mostly a favourite."""
        favourites = self.shoppers.favourites[self.visits.shopper[self.session]]
        n = len(favourites)
        favourite = favourites[np.arange(n), self.rng.integers(favourites.shape[1], size=n)]
        any_leaf = self.catalogue.leaf[self._by_popularity(np.zeros(n), np.ones(n))]
        return np.where(self.rng.random(n) < 0.8, favourite, any_leaf)

    def _by_popularity(self, low: Floats, high: Floats) -> Ints:
        """Items drawn by popularity, from the part `low` to `high` (0 to 1) of the cumulative popularity."""
        drawn = (low + (high - low) * self.rng.random(low.shape)) * self._cumulative[-1]
        return np.clip(np.searchsorted(self._cumulative, drawn, side="right") - 1, 0, len(self._cumulative) - 2)

    def _from_category(self, leaf: Ints, score: Callable[[Ints], Floats]) -> Ints:
        """One item per session, chosen by score among CANDIDATES items drawn from the category by popularity."""
        edges = self._cumulative[self.catalogue.leaf_start] / self._cumulative[-1]
        low, high = (np.repeat(edges[bound][:, None], CANDIDATES, 1) for bound in (leaf, leaf + 1))
        return self._choose(self._by_popularity(low, high), score)

    def _from_related(self) -> Ints:
        """One of the related items on the open page, chosen by rank on the page and by the shopper's taste."""
        shown = self.related[self.item]
        rank_score = -0.6 * np.log1p(np.arange(shown.shape[1]))
        return self._choose(shown, lambda items: rank_score + self._taste(items))

    def _taste(self, items: Ints) -> Floats:
        """How well items (sessions × candidates) suit the shoppers' styles and price levels."""
        shopper = self.visits.shopper[self.session]
        style = np.einsum("sd,scd->sc", self.shoppers.style[shopper], self.catalogue.style[items])
        price = np.abs(self.shoppers.price_level[shopper][:, None] - self.catalogue.price_level[items])
        return STYLE_TASTE * style - PRICE_TASTE * price

    def _choose(self, items: Ints, score: Callable[[Ints], Floats]) -> Ints:
        """One item per row, drawn with weight exp(score) from the items on sale that are not open; NONE without any."""
        day = self.visits.day[self.session][:, None]
        possible = self.catalogue.on_sale(items, day) & (items != self.item[:, None])
        keys = np.where(possible, score(items) + self.rng.gumbel(size=items.shape), -np.inf)
        best = np.arange(len(items)), keys.argmax(1)
        return np.where(np.isfinite(keys[best]), items[best], NONE)

    # Writing the log

    def _open(
        self, sessions: Bools, item: Ints, kind: int, source: Ints | int = NONE, query: Ints | int = NONE
    ) -> None:
        """Open each item in its session, and write the rows; some items are also put into the cart or bought."""
        sessions = sessions & (item != NONE) & (item != self.item)
        sessions &= self.catalogue.on_sale(np.maximum(item, 0), self.visits.day[self.session])
        rows = np.flatnonzero(sessions)
        self.clock[rows] += np.minimum(self.rng.lognormal(3.6, 0.9, len(rows)), 1_200)
        session, clock, opened = self.session[rows], self.clock[rows], item[rows]
        logs_source = self.visits.logs_source[session]
        types = np.where(logs_source, kind, VIEW)  # the shop's old app logs only page views
        source = np.where(logs_source, np.broadcast_to(source, sessions.shape)[rows], NONE)
        self.log.append(log_rows(session, clock, types, opened, source, np.broadcast_to(query, sessions.shape)[rows]))
        # Some pages also log a view, a moment after the click that led to them.
        viewed = (types == CLICK) & (self.rng.random(len(rows)) < 0.35)
        self.log.append(log_rows(session[viewed], clock[viewed] + 0.6, VIEW, opened[viewed]))
        self._buy(session, clock, opened)
        self.item[rows] = opened

    def _buy(self, session: Ints, clock: Floats, item: Ints) -> None:
        carted = np.flatnonzero(self.rng.random(len(session)) < CART_SHARE)
        later = clock[carted] + self.rng.uniform(5, 40, len(carted))
        self.log.append(log_rows(session[carted], later, CART, item[carted]))
        bought = carted[self.rng.random(len(carted)) < PURCHASE_SHARE]
        later = clock[bought] + self.rng.uniform(60, 400, len(bought))
        self.log.append(log_rows(session[bought], later, PURCHASE, item[bought]))

    def _search(self, sessions: Bools, leaf: Ints) -> None:
        """Search for an item of the category, and open one to three results that match the query."""
        target = self._from_category(leaf, self._taste)
        sessions = sessions & (target != NONE)
        query = draw_queries(self.catalogue, np.maximum(target, 0), self.rng)
        rows = np.flatnonzero(sessions)
        self.clock[rows] += self.rng.uniform(5, 30, len(rows))
        self.log.append(log_rows(self.session[rows], self.clock[rows], SEARCH, NONE, query=query[rows]))

        def match(items: Ints) -> Floats:
            style = np.einsum("sd,scd->sc", self.catalogue.style[target], self.catalogue.style[items])
            same_brand = self.catalogue.brand[items] == self.catalogue.brand[target][:, None]
            score: Floats = 4.0 * style + 1.0 * same_brand + 0.5 * self._taste(items)
            return score

        self._open(sessions, target, CLICK, query=query)
        for share in (0.45, 0.4):
            sessions = sessions & (self.rng.random(len(sessions)) < share)
            self._open(sessions, self._from_category(leaf, match), CLICK, query=query)
