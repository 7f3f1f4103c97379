"""How much an older day counts, in fixed point, so that sums come out the same in any order."""

import datetime as dt
from typing import TYPE_CHECKING, NamedTuple

from pyspark.sql import functions as F

if TYPE_CHECKING:
    from pyspark.sql import Column

# One event of the as-of day. Sums stay in int64 up to 2^31 such events on one edge.
ONE = 1 << 32

EPOCH = dt.date(1970, 1, 1)


class AsOf(NamedTuple):
    """The last day of the whole graph and of the fit graph, as day numbers: their events weigh one."""

    full: int
    fit: int


def day_number(date: dt.date) -> int:
    """Days since 1970-01-01."""
    return (date - EPOCH).days


def decayed(day: "Column", as_of_day: int, half_life_days: float, share: "Column | float" = 1.0) -> "Column":
    """round(2^32 · share · 2^(-(as_of_day - day) / half_life_days)), int64: what one event of `day` weighs.

    A later day, of sessions that are held out, weighs what the as-of day does: far later ones would overflow.
    """
    age = F.greatest(F.lit(as_of_day) - day, F.lit(0))
    return F.round(F.lit(float(ONE)) * share * F.pow(F.lit(2.0), -age / F.lit(half_life_days))).cast("bigint")


def weight_of_day(day: int, as_of_day: int, half_life_days: float) -> int:
    """`decayed` of one day, without Spark."""
    return int(ONE * 2.0 ** (min(day - as_of_day, 0) / half_life_days) + 0.5)
