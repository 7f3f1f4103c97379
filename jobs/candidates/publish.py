"""`lightsage publish`: publishes a version that was built with `run --no-publish`, if it passes the gates of a night.

A night measures its fit on a held-out day. The version here may have learned from every day of the log, so its hits can
be judged only on later events; without any, they are not judged. The other gates are those of a night.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from jobs.candidates.contenders import CompareOptions, Contender
from jobs.config import Config
from jobs.errors import GateError, NoVersionError, StoreError
from jobs.nightly.drift import neighbour_overlap, worst_norm
from jobs.nightly.gates import Gate, ads_gates, coverage_gate, drift_gates, failed, quality_gates, size_gates
from jobs.nightly.record import NightRecord, history, records
from jobs.pipeline.evaluate import SESSION_KIND, counting_peers, overlapping_events
from jobs.pipeline.evaluation_events import read_events, sessions_of
from jobs.pipeline.graph_stage import read_summary
from jobs.progress import ProgressCallback, StageProgress
from jobs.workspace.version_folder import Version
from jobs.workspace.workspace import Workspace

if TYPE_CHECKING:
    from retrieval.evaluation.pairs import Pairs
    from retrieval.evaluation.sessions import Sessions

log = logging.getLogger(__name__)

# The parts of a version that its gates read, and the further parts that the counting peers need.
PARTS = ("index", "embeddings", "graph/summary.json")
PEER_PARTS = ("graph/sessions",)
PEERS = ("transitions", "rules", "item-kNN", "popularity")


@dataclass(frozen=True)
class Publication:
    """What `publish_version` did.

    Args:
        version: the version that is current now.
        before: the version that was current before; None if there was none.
        gates: the results of all gates.
    """

    version: str
    before: str | None
    gates: tuple[Gate, ...] = ()


def publish_version(
    workspace: Workspace,
    name: str,
    config: Config,
    *,
    events: Sequence[str] = (),
    force: bool = False,
    progress: StageProgress,
) -> Publication:
    """Publish a version that passes its gates.

    Args:
        workspace: the workspace, whose lock is taken.
        name: the name of the version.
        config: the full configuration; `[nightly]` sets the limits of the gates.
        events: files or folders of events after the as-of times of this version and the published one; empty = the hits
            are not judged.
        force: publish even if gates fail; the manifest names the failed gates.
        progress: shows and times the work.

    Raises:
        GateError: a gate failed; the version published before stays current.
        StoreError: there is no such whole version, or it was replaced or held back before, so that only `lightsage
            rollback` may publish it.
    """
    with workspace.lock():
        before = _current(workspace)
        if name == before:
            return Publication(name, before)
        _check_order(workspace, name, before)
        with progress.stage("gates") as report:
            gates = check_gates(Candidacy.open(workspace, name, before, config, events), report)
        for gate in gates:
            log.log(logging.INFO if gate.passed else logging.ERROR, "gate %s: %s", gate.verdict, gate)
        failures = failed(gates)
        if failures and not force:
            raise GateError(
                f"{name} is not published, because {len(failures)} of its gates fail: {'; '.join(map(str, failures))}. "
                "--force publishes it nevertheless"
            )
        forced = [gate.name for gate in failures]
        workspace.promote(name, {"gates": [gate.model_dump() for gate in gates], "forced": forced})
    return Publication(name, before, tuple(gates))


@dataclass(frozen=True)
class Candidacy:
    """A version that is to be published, and everything that its gates need.

    Args:
        workspace: the workspace; the records of its nights give the gates their ranges.
        version: the version; the parts that its gates read are readable.
        published: the published version, whose index is readable; None if nothing is published.
        config: the full configuration.
        events: files or folders of later events; empty = the hits are not judged.
    """

    workspace: Workspace
    version: Version
    published: Version | None
    config: Config
    events: Sequence[str]

    @classmethod
    def open(
        cls, workspace: Workspace, name: str, published: str | None, config: Config, events: Sequence[str]
    ) -> "Candidacy":
        """Open both versions by their names, after comparing the needed files with their checksums."""
        version = workspace.open(name, verify=True, parts=(*PARTS, *(PEER_PARTS if events else ())))
        old = None if published is None else workspace.open(published, verify=True, parts=("index",))
        return cls(workspace, version, old, config, events)


def check_gates(candidacy: Candidacy, report: ProgressCallback) -> list[Gate]:
    """Return the results of a version's gates.

    Args:
        candidacy: the version, and everything that its gates need.
        report: called with the progress.
    """
    workspace, version, config = candidacy.workspace, candidacy.version, candidacy.config
    limits = config.nightly
    record = NightRecord(date=version.manifest.as_of.date())
    record.add_graph(read_summary(version.path / "graph"))
    # A night counts the sessions of the day that it holds out. This version holds out no day.
    figures = {key: value for key, value in record.figures.items() if key != "count:sessions of the day"}
    nights, last = history(records(workspace), set(workspace.rollbacks()), limits.history)
    gates = size_gates(figures, [night.figures for night in nights], limits)
    gates += ads_gates(record.ads, [night.ads for night in nights], last.ads if last else {}, limits)
    overlap = None
    if (old := candidacy.published) is not None:
        report("neighbours of the probes", 0.1)
        overlap = neighbour_overlap(version.path / "index", old.path / "index", config, limits.probes)
    gates += drift_gates(overlap, worst_norm(version.path / "embeddings"), limits)
    if not candidacy.events:
        remark = "no later events were given; --events TEST judges the hits"
        return [*gates, Gate(name="hits on later events", value=None, passed=True, judged=False, remark=remark)]
    return gates + _gates_on_hits(candidacy, report)


def _current(workspace: Workspace) -> str | None:
    try:
        return workspace.current()
    except NoVersionError:
        return None


def _check_order(workspace: Workspace, name: str, current: str | None) -> None:
    """Refuse a version that was held back, or published and then replaced: only a rollback may publish it."""
    order, rollback = workspace.versions(), workspace.rollbacks().get(name)
    is_older = name in order and current in order and order.index(name) < order.index(str(current))
    if rollback is not None and rollback.held:
        why = "is not current, because a person rolled back while it was built"
    elif is_older or rollback is not None:
        why = f"was published before, and {current} has replaced it"
    else:
        return
    raise StoreError(f"version {name} {why}: `lightsage rollback --to {name}` publishes it")


def _gates_on_hits(candidacy: Candidacy, report: ProgressCallback) -> list[Gate]:
    """Compare the version with the published one and with the counting peers, on later events."""
    from retrieval.evaluation.metrics import coverage
    from retrieval.evaluation.protocols import rank_pairs, ratios

    config = candidacy.config
    table = read_events(candidacy.events, config.graph.input)
    own = Contender.of(candidacy.version, config)
    old = None if candidacy.published is None else Contender.of(candidacy.published, config)
    for contender in (own, old):
        if contender is not None:
            overlapping_events(table, contender.index.as_of, contender.version.name)
    protocol, sessions, pairs = _questions(table, own, config)
    peers = counting_peers(own.version.path / "graph", own.index.catalogue, own.index.edges)
    others = {name: rank_pairs(peers[name], pairs) for name in PEERS}
    report(own.version.name, 0.4)
    ranking = rank_pairs(own.ranker, pairs)
    before = None
    if old is not None:
        report(old.version.name, 0.7)
        old_pairs = old.pairs(sessions, CompareOptions(protocol))
        others["published"] = rank_pairs(old.ranker, old_pairs)
        before = coverage(others["published"].lists, 20, old_pairs.n_items)
    compared = {name: ratios(ranking, other, pairs, protocol) for name, other in others.items()}
    return [
        *quality_gates(compared, config.nightly, baskets=protocol == "basket"),
        coverage_gate(coverage(ranking.lists, 20, pairs.n_items), before, config.nightly, len(ranking.lists)),
    ]


def _questions(table: pa.Table, contender: Contender, config: Config) -> "tuple[str, Sessions, Pairs]":
    """The protocol item, or basket if item has nothing to measure, with the sessions and pairs of the events."""
    from retrieval.errors import EvaluationError
    from retrieval.evaluation.protocols import require_pairs

    problems = []
    for protocol in ("item", "basket"):
        try:
            sessions = sessions_of(table, SESSION_KIND[protocol], config.graph.input)
            pairs = contender.pairs(sessions, CompareOptions(protocol))
            require_pairs(pairs)
        except EvaluationError as error:
            problems.append(error)
        else:
            return protocol, sessions, pairs
    raise problems[0]
