"""The marketplace's shoppers: their tastes, and the sessions in which they visit the shop."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jobs.marketplace.catalogue import Bools, Catalogue, Floats, Ints
from jobs.marketplace.config import MarketplaceConfig

FAVOURITES = 8
COUNTRIES = ("DE", "FR", "NL", "AT", "PL", "ES")
_COUNTRY_SHARE = (0.38, 0.2, 0.14, 0.1, 0.1, 0.08)
# Relative number of visits by hour of the day (UTC): quiet nights, a dip after lunch, and an evening peak.
_HOURS = (9, 5, 3, 2, 2, 4, 9, 18, 28, 36, 42, 47, 52, 48, 44, 43, 46, 54, 65, 78, 86, 76, 50, 24)
_WEEKDAYS = (1.0, 0.96, 0.97, 1.0, 1.05, 1.2, 1.3)
DAY_SECONDS = 86_400


@dataclass(frozen=True)
class Shoppers:
    """One row per shopper; `style` is hidden and has unit length, `favourites` are leaf categories."""

    style: Floats
    price_level: Floats
    favourites: Ints
    country: Ints
    signed_in: Bools
    activity: Floats
    ids: npt.NDArray[np.str_]


@dataclass(frozen=True)
class Visits:
    """One row per session; `start` is in seconds, `logs_source` says whether clicks log `source_item_id`."""

    shopper: Ints
    day: Ints
    start: Floats
    logs_source: Bools
    ids: npt.NDArray[np.str_]


def build_shoppers(config: MarketplaceConfig, catalogue: Catalogue, rng: np.random.Generator) -> Shoppers:
    """Draw the shoppers: each likes a style near that of some item, and the categories of two themes.

    Args:
        config: the number of shoppers, and how many of them sign in.
        catalogue: all items.
        rng: the source of random numbers.
    """
    n = config.shoppers
    preferred = catalogue.style[rng.integers(len(catalogue.style), size=n)]
    style = preferred + rng.normal(0, 0.2, preferred.shape)
    by_theme: dict[str, list[int]] = {}
    for position, leaf in enumerate(catalogue.leaves):
        for theme in leaf.themes:
            by_theme.setdefault(theme, []).append(position)
    themes = [np.array(members) for _, members in sorted(by_theme.items())]
    liked = rng.integers(len(themes), size=(n, 2))
    pick = rng.random((n, FAVOURITES))
    favourites = np.array(
        [
            [themes[liked[i, j % 2]][int(pick[i, j] * len(themes[liked[i, j % 2]]))] for j in range(FAVOURITES)]
            for i in range(n)
        ]
    )
    return Shoppers(
        style=style / np.linalg.norm(style, axis=1, keepdims=True),
        price_level=rng.normal(0, 0.9, n),
        favourites=favourites,
        country=rng.choice(len(COUNTRIES), n, p=_COUNTRY_SHARE),
        signed_in=rng.random(n) < config.signed_in_share,
        activity=rng.lognormal(0, 1.1, n),
        ids=np.array([f"u{number}" for number in rng.permutation(n) + 10_000]),
    )


def build_visits(config: MarketplaceConfig, shoppers: Shoppers, rng: np.random.Generator) -> Visits:
    """Draw the sessions of all days and of the test day, sorted by time.

    Args:
        config: the days, the number of sessions a day, and the share of sessions that log the sources of clicks.
        shoppers: the people who may visit the shop; active ones come more often.
        rng: the source of random numbers.
    """
    days = config.days + 1
    weekday = np.array([_WEEKDAYS[(config.start.weekday() + day) % 7] for day in range(days)])
    per_day = np.round(config.sessions_per_day * weekday / weekday.mean()).astype(int)
    day = np.repeat(np.arange(days), per_day)
    n = len(day)
    hours = np.array(_HOURS) / sum(_HOURS)
    second = rng.choice(24, n, p=hours) * 3_600 + rng.random(n) * 3_600
    order = np.argsort(day * DAY_SECONDS + second, kind="stable")
    day, second = day[order], second[order]
    shopper = rng.choice(config.shoppers, n, p=shoppers.activity / shoppers.activity.sum())
    serial = rng.integers(16**8, 16**9, n)
    return Visits(
        shopper=shopper,
        day=day,
        start=day * DAY_SECONDS + second,
        logs_source=rng.random(n) < config.source_logged_share,
        ids=np.array([f"s{number:x}-{position}" for position, number in enumerate(serial)]),
    )
