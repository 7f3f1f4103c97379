"""Sessions of logs without session ids, in plain Python, event by event; and logs with all border cases of the rule."""

import datetime as dt
import random
from collections import defaultdict
from typing import Any
from zoneinfo import ZoneInfo

from tests.graph_build.conftest import event

Rows = list[dict[str, Any]]
# (user, day, time of the first event)
Key = tuple[str, dt.date, dt.datetime]
GAP = dt.timedelta(minutes=30)
TICK = dt.timedelta(microseconds=1)
STEPS = (dt.timedelta(0), dt.timedelta(seconds=1), dt.timedelta(minutes=10), GAP - TICK, GAP, GAP + TICK, 5 * GAP)
# Shortly before midnight in UTC or Berlin, on an ordinary day and around the changes of Berlin's clocks; the third is
# shortly before such a change.
STARTS = tuple(
    dt.datetime.fromisoformat(f"{text}+00:00")
    for text in ("2026-03-02T23:40", "2026-03-28T22:40", "2026-03-29T00:40", "2026-03-29T21:40", "2026-10-24T21:40")
)


def cut_by_user(rows: Rows, zone: str = "UTC", gap: dt.timedelta = GAP) -> dict[Key, Rows]:
    """Return the events of each session, in order and without copies.

    A copy has the event_id of an earlier event of the same user and day or, without an event_id, equals the event
    before it.
    """
    days: dict[tuple[str, dt.date], Rows] = defaultdict(list)
    for _, row in sorted(enumerate(rows), key=lambda pair: (pair[1]["timestamp"], pair[0])):
        day = days[row["user_id"], row["timestamp"].astimezone(ZoneInfo(zone)).date()]
        if row.get("event_id") is not None and row["event_id"] in [other.get("event_id") for other in day]:
            continue
        if not day or day[-1] != row or row.get("event_id") is not None:
            day.append(row)
    sessions: dict[Key, Rows] = {}
    for (user, date), events in days.items():
        for number, row in enumerate(events):
            if number == 0 or row["timestamp"] - events[number - 1]["timestamp"] > gap:
                session = sessions[user, date, row["timestamp"]] = []
            session.append(row)
    return sessions


def log_of_users(rng: random.Random, users: int, most_events: int) -> Rows:
    """Return events of users in random order, with ties, pauses close to the limit, midnights and copies of events."""
    rows: Rows = []
    for user in range(users):
        time = rng.choice(STARTS)
        for n in range(rng.randrange(1, most_events)):
            time += rng.choice(STEPS)
            event_id = f"{user}-{n}" if rng.random() < 0.5 else None
            kind = rng.choice(["view", "view", "click", "purchase"])
            row = event(None, time, kind, f"{user}-{n}", user_id=f"u{user}", event_id=event_id)
            rows.append(row)
            if event_id is not None and rng.random() < 0.3:
                later = time + rng.choice([*STEPS, dt.timedelta(0)])
                rows.append(row | {"timestamp": later})
    rng.shuffle(rows)
    return rows
