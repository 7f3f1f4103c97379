"""Decay of older days: an event loses half its weight every half-life.

Weights are integers in fixed point, so that their sums do not depend on the order in which Spark adds them.
"""

import datetime as dt
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

if TYPE_CHECKING:
    from pyspark.sql import Column

# The weight of one event of the as-of day. Fewer than 2^31 such events on one edge have a sum that fits into int64.
ONE = 1 << 32

EPOCH = dt.date(1970, 1, 1)


def day_number(date: dt.date) -> int:
    """Return the days since 1970-01-01."""
    return (date - EPOCH).days


def decayed(day: "Column", as_of_day: int, half_life_days: float, share: "Column | float" = 1.0) -> "Column":
    """Return the weight of one event, int64: round(2^32 · share · 2^(-(as_of_day - day) / half_life_days)).

    Events after the as-of day weigh as much as those of the as-of day. They belong to held-out sessions; if weights
    grew after the as-of day, sums could overflow.

    Args:
        day: day number of the event.
        as_of_day: day number on which an event weighs 2^32.
        half_life_days: days in which the weight halves.
        share: factor of the event's weight.
    """
    age = F.greatest(F.lit(as_of_day) - day, F.lit(0))
    return F.round(F.lit(float(ONE)) * share * F.pow(F.lit(2.0), -age / F.lit(half_life_days))).cast("bigint")


def weight_of_day(day: int, as_of_day: int, half_life_days: float) -> int:
    """Return the same weight as `decayed` for one day and a share of 1, without Spark.

    Args:
        day: day number of the event.
        as_of_day: day number on which an event weighs 2^32.
        half_life_days: days in which the weight halves.
    """
    return int(ONE * 2.0 ** (min(day - as_of_day, 0) / half_life_days) + 0.5)
