"""A shop of the benchmark: its finished item graph, and the test events after it."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from graph_build.config import InputConfig
from jobs.pipeline.evaluation_events import read_events, sessions_of
from model.graph import ItemGraph, load_graph
from retrieval.catalogue.edges import Edges
from retrieval.catalogue.items import lookup
from retrieval.evaluation.baselines import TrainingSessions
from retrieval.evaluation.pairs import Pairs, pairs_of
from retrieval.evaluation.sessions import Sessions, sessions_from_graph

KIND = {"item": "browse", "session": "browse", "basket": "basket"}


@dataclass(frozen=True)
class Split:
    """The training data of a model: the graph and sessions without the hold-out (`fit`), or all of them (`full`)."""

    root: Path
    name: Literal["fit", "full"]
    protocol: str

    @cached_property
    def graph(self) -> ItemGraph:
        """The item graph with the items' features."""
        items = self.root / "tables" / "items"
        return load_graph(self.root, self.name, items if items.exists() else None)

    @cached_property
    def _nodes(self) -> pa.Table:
        return pq.read_table(self.root / self.name / "nodes", columns=["item_id", "events", "popularity"]).sort_by(
            "item_id"
        )

    @cached_property
    def item_ids(self) -> NDArray[np.object_]:
        """The (N,) item ids, sorted."""
        return np.array(self._nodes["item_id"].to_pylist(), dtype=object)

    @cached_property
    def events(self) -> NDArray[np.int64]:
        """The (N,) numbers of training events."""
        return self._nodes["events"].to_numpy().astype(np.int64)

    @cached_property
    def popularity(self) -> NDArray[np.float64]:
        """The (N,) decayed numbers of events."""
        return self._nodes["popularity"].to_numpy().astype(np.float64)

    @cached_property
    def edges(self) -> Edges:
        """The typed edges, by source."""
        return Edges.from_table(pq.read_table(self.root / self.name / "edges"), self.item_ids)

    @cached_property
    def sessions(self) -> TrainingSessions:
        """The training sessions as catalogue rows."""
        sessions = _read_sessions(self.root, self.protocol, held=None if self.name == "full" else False)
        rows, _ = lookup(self.item_ids, sessions.item_ids)
        return TrainingSessions(rows, sessions.offsets, len(self.item_ids))


@dataclass(frozen=True)
class Shop:
    """A shop's graph folder and its test events."""

    name: str
    root: Path
    test_events: Path
    protocol: str = "item"

    @cached_property
    def fit(self) -> Split:
        """The data for models that are measured on the hold-out."""
        return Split(self.root, "fit", self.protocol)

    @cached_property
    def full(self) -> Split:
        """The data for models that are measured on the test."""
        return Split(self.root, "full", self.protocol)

    @cached_property
    def holdout(self) -> Pairs:
        """The pairs of the hold-out, for a model of `fit`."""
        held = _read_sessions(self.root, self.protocol, held=True)
        return pairs_of(self.protocol, held, self.fit.item_ids, self.fit.events)

    @cached_property
    def test(self) -> Pairs:
        """The pairs of the test, for a model of `full`."""
        sessions = sessions_of(read_events([str(self.test_events)], InputConfig()), KIND[self.protocol])
        return pairs_of(self.protocol, sessions, self.full.item_ids, self.full.events)

    @property
    def commit_facts(self) -> dict[str, object]:
        """Counts of the graph, by which one can tell which graph a figure belongs to."""
        summary = json.loads((self.root / "summary.json").read_text(encoding="utf-8"))
        return {key: summary[key] for key in ("as_of", "nodes", "tail", "edges", "sessions", "holdout_sessions")}


def _read_sessions(root: Path, protocol: str, *, held: bool | None) -> Sessions:
    row_filter = None if held is None else pc.field("held") == held
    table = pq.read_table(root / "sessions", columns=["session", "kind", "items", "times"], filters=row_filter)
    return sessions_from_graph(table.sort_by("session"), KIND[protocol])
