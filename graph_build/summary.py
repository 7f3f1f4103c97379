"""The counts of one graph build: the content of `summary.json`, which the reports and the nightly gates read."""

import dataclasses
import datetime as dt
import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class GraphSummary:
    """Counts of one build. Where the two graphs differ, the counts are those of `full`.

    Args:
        as_of: time of the last valid event that was used, except impressions, in UTC.
        events: read, valid, duplicates (dropped), opened_views (views that count with the click that opened them),
            left_out (events with an ad_id, if `exclude_ad_events` is set), other_days (events of days that were not
            requested), ignored (events of types that are configured as "ignore"), by_type {type: valid events}. If the
            build used stored days, `read` is the sum of valid events, duplicates and refused rows.
        quarantined: input → reason → rows.
        nodes: items in the graph.
        tail: items with at most `tail.max_events` events.
        edges: edge type → directed edges.
        transitions: kind → training pairs.
        sessions: sessions that list an item.
        holdout_sessions: how many of these sessions are held out.
        capped: rule → how many items or users its cap removed.
        ads: total (accepted ads), by_status {status: ads}, in_flight (accepted ads of known items that can be shown at
            the as-of time), without_item (ads whose item is unknown, both accepted and refused ones), rows (accepted
            ads, plus those refused because their item is unknown). Files of older versions have only the first two.
        most_cut: rule → name of a group → its members before the cap, for the groups that lost most. Items, sessions
            and searches have their names from the log. A user's day is named by the first 48 bits of
            `xxhash64(user_id)`, in hex, and its date; a session without an id by the same bits and its start. If a
            user_id is missing, the session_id replaces it.
        doubts: sentences about what looks wrong with the log.
        seconds: stage → wall time.
        isolated: items without any edge. None in files of older versions, which did not count them.
        mean_degree: mean number of distinct neighbours of an item, in either direction and over all edge types. None in
            files of older versions, and for graphs with more edges than `report.max_component_edges`.
        degrees: edge type → [(n, items with at least n neighbours of that type)]. The values of n are powers of two
            and, in graphs of at most `report.max_component_edges` edges, the largest degree. Empty in files of older
            versions.
    """

    as_of: dt.datetime
    events: dict[str, Any]
    quarantined: dict[str, dict[str, int]]
    nodes: int
    tail: int
    edges: dict[str, int]
    transitions: dict[str, int]
    sessions: int
    holdout_sessions: int
    capped: dict[str, int]
    ads: dict[str, Any]
    most_cut: dict[str, dict[str, int]] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    isolated: int | None = None
    mean_degree: float | None = None
    degrees: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    @classmethod
    def from_json(cls, text: str) -> "GraphSummary":
        """Parse the text of a `summary.json`."""
        content = json.loads(text)
        content["as_of"] = dt.datetime.fromisoformat(content["as_of"])
        degrees = content.get("degrees", {}).items()
        return cls(**content | {"degrees": {kind: [(n, items) for n, items in points] for kind, points in degrees}})

    def to_json(self) -> str:
        """Return the text of `summary.json`; the time is in ISO 8601 with its offset."""
        return json.dumps(dataclasses.asdict(self) | {"as_of": self.as_of.isoformat()}, indent=2)
