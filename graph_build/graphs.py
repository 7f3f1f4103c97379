"""The two graphs of one build: `full` from all sessions, and `fit` as if the held-out sessions had not happened."""

from typing import NamedTuple

GRAPHS = ("full", "fit")


class AsOf(NamedTuple):
    """The last day of each graph, as a day number. Events of that day weigh one; earlier ones decay."""

    full: int
    fit: int
