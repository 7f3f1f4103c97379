"""The hold-out takes the last sessions, each as a whole, but never all sessions."""

import datetime as dt
import random
from collections.abc import Callable
from typing import Any

import pytest

from graph_build.sessions.holdout import cutoff_at_day, cutoff_for_share, is_held_out
from tests.graph_build.conftest import at, event


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_the_hold_out_is_the_last_sessions_that_reach_the_share(assembled: Callable[..., Any], share: float) -> None:
    rng = random.Random(8)
    log = []
    for s in range(40):
        start = at(rng.choice([0, 0, 0, 30, 30.5]), day=rng.randrange(3))
        log += [event(f"s{s}", start + dt.timedelta(seconds=i), "view", f"i{i}") for i in range(rng.randrange(1, 6))]
    rows = assembled(log)
    event_counts = {(row["start"], row["session"]): row["counted"] for row in rows.collect()}
    expected, total = set(), 0
    for key in sorted(event_counts, reverse=True):
        if total < share * len(log):
            expected.add(key[1])
            total += event_counts[key]
    held_out = rows.where(is_held_out(cutoff_for_share(rows, share)))
    assert {row["session"] for row in held_out.collect()} == expected


def test_the_hold_out_never_takes_every_session(assembled: Callable[..., Any]) -> None:
    rows = assembled([event("s", at(i), "view", f"i{i}") for i in range(5)])
    assert cutoff_for_share(rows, 0.9) is None
    assert cutoff_for_share(rows, 0.0) is None


def test_a_day_holds_out_its_sessions_and_those_of_later_days(assembled: Callable[..., Any]) -> None:
    log = [event(f"s{day}", at(minute, day=day), "view", "a") for day in range(3) for minute in (0, 1439)]
    rows = assembled(log)
    day = at(0, day=1).date()
    assert sorted(row["day"] for row in rows.where(is_held_out(cutoff_at_day(day))).collect()) == [
        cutoff_at_day(day).day(),
        cutoff_at_day(day).day() + 1,
    ]
