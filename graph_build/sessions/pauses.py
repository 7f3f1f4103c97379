"""Cuts the events of a user's day into sessions at long pauses, if the log has no session ids."""

from typing import Any

import numpy as np

from graph_build.arrays import Ints, starts_of_runs
from graph_build.sessions import kernel


def cut_at_pauses(session: Ints, has_id: Any, user: Ints, day: Ints, time: Ints, longest: int) -> Ints:
    """Return the session of each event; a new session begins after each pause that is too long.

    The number of a session depends on the user, the day and the time of its first event, and on nothing else: a file
    that is sent again, or in another order, gives the same sessions.

    Args:
        session: (E,), the sessions so far, each with its events side by side and in order of time; E is at least 1.
            Without ids, all events of a user's day are one session.
        has_id: (E,) bool, whether the log names the session; such sessions are not cut.
        user: (E,), the hash of the user.
        day: (E,), the day in the zone in which days are cut.
        time: (E,), in microseconds.
        longest: the longest pause within a session, in microseconds.
    """
    if has_id.all():
        return session
    pauses = np.concatenate([[0], np.cumsum(~has_id[1:] & (np.diff(time) > longest))])
    starts = starts_of_runs(session, pauses)
    number = session_number(user[starts], day[starts], time[starts])
    lengths = np.diff(np.append(starts, len(session)))
    return np.where(has_id, session, np.repeat(number, lengths))


def session_number(user: Ints, day: Ints, start: Ints) -> Ints:
    """Return the number of each session without an id.

    Args:
        user: (S,), the hash of the user.
        day: (S,), days since 1970.
        start: (S,), the time of the first event, in microseconds.
    """
    number: Ints = kernel.hash_pair(kernel.hash_pair(user, day.astype(np.int64)), start)
    return number
