"""What a build did, in numbers: the content of `summary.json`."""

import dataclasses
import datetime as dt
import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class GraphSummary:
    """Counts of one build; of `full/` where the two graphs differ.

    Args:
        as_of: time of the last valid event used, UTC.
        events: read, valid, duplicates, opened_views (views that a click had already counted), left_out (events of
            our own ads, when they are excluded), by_type {type: valid events}.
        quarantined: input → reason → rows.
        edges: type → edges. transitions: kind → pairs.
        capped: rule → rows that it cut. most_cut: rule → the groups that it cut most → members before the cut.
            Items, sessions and searches are named as in the log, users by `xxhash64(user_id)`.
        ads: total, by_status {status: ads}.
        doubts: what looks wrong with the log, in sentences.
        seconds: stage → wall time.
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

    @classmethod
    def from_json(cls, text: str) -> "GraphSummary":
        """What `to_json` wrote."""
        content = json.loads(text)
        return cls(**(content | {"as_of": dt.datetime.fromisoformat(content["as_of"])}))

    def to_json(self) -> str:
        """As written to `summary.json`; the time in ISO 8601 with its offset."""
        return json.dumps(dataclasses.asdict(self) | {"as_of": self.as_of.isoformat()}, indent=2)
