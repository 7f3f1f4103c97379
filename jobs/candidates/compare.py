"""`lightsage compare`: measures whether one version finds more targets than another, with intervals.

Both versions answer the same questions of later events, each from its own index, as its server would. The differences
are paired: see `retrieval.evaluation.paired`.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from jobs.candidates.contenders import CompareOptions, Contender
from jobs.candidates.frontier import popularity_dial
from jobs.config import Config
from jobs.nightly.versions import changed_settings
from jobs.pipeline.evaluate import (
    MAX_UNKNOWN_SHARE,
    SESSION_KIND,
    overlapping_events,
    share_of_unknown,
)
from jobs.pipeline.evaluation_events import read_events, sessions_of
from jobs.progress import ProgressCallback

if TYPE_CHECKING:
    from retrieval.evaluation.pairs import Pairs
    from retrieval.evaluation.protocols import Ranking
    from retrieval.evaluation.sessions import Sessions

log = logging.getLogger(__name__)

BETTER, WORSE, UNCLEAR, TOO_FEW = "better", "worse", "no clear difference", "too few sessions"


def compare_versions(
    contenders: Sequence[Contender],
    events: Sequence[str],
    config: Config,
    options: CompareOptions,
    report: ProgressCallback,
) -> dict[str, Any]:
    """Measure how many more targets the second version finds than the first, on events that neither has seen.

    Args:
        contenders: the two versions. The training events of the first decide which targets are tail and cold.
        events: files or folders of test events.
        config: the full configuration; `[input]` says how the events are read.
        options: what to measure, and how.
        report: called with the progress.

    Returns:
        A mapping with the keys versions, as_of, protocol, rows (those of `retrieval.evaluation.paired.differences`,
        each with a verdict), settings (key → both values, for settings that differ) and notes (sentences). It has
        include_current if that option is set, and frontier (see `jobs.candidates.frontier`) if `options.frontier` is.

    Raises:
        OverlapError: a test event is not after the as-of time of a version, and `options` do not allow that.
        TableError, EvaluationError: the events do not fit the contract, or hold nothing to measure.
    """
    from retrieval.evaluation.paired import differences
    from retrieval.evaluation.protocols import rank_pairs, require_pairs, slices_of

    report("reading", 0.0)
    first, second = contenders
    table = read_events(events, config.graph.input)
    notes = _notes(table, contenders, options)
    sessions = sessions_of(table, SESSION_KIND[options.protocol], config.graph.input)
    pairs = [contender.pairs(sessions, options) for contender in contenders]
    require_pairs(pairs[0])
    rankings = []
    for n, contender in enumerate(contenders):
        report(contender.version.name, 0.1 + 0.2 * n)
        rankings.append(rank_pairs(contender.ranker, pairs[n]))
    rows = differences(rankings[0].rank, rankings[1].rank, pairs[0], slices_of(pairs[0]), options.protocol)
    if first.index.ads is not None and second.index.ads is not None:
        report("ads", 0.5)
        rows += _rows_of_ads(contenders, sessions, options)
    rows.append(_coverage(rankings, pairs))
    content: dict[str, Any] = {
        "versions": [contender.version.name for contender in contenders],
        "as_of": [contender.index.as_of.isoformat() for contender in contenders],
        "protocol": options.protocol,
        "rows": [row | {"verdict": _verdict(row)} for row in rows],
        "settings": changed_settings(*(contender.version.manifest.config for contender in contenders)),
        "notes": notes,
    }
    if options.include_current:
        content["include_current"] = True
    if options.frontier:
        report("popularity weights", 0.7)
        content["frontier"] = [popularity_dial(contender, sessions, options, config) for contender in contenders]
    return content


def _notes(table: pa.Table, contenders: Sequence[Contender], options: CompareOptions) -> list[str]:
    """Check that no version may have seen the events; return a sentence for each reason why the result is unfair."""
    notes = []
    for contender in contenders:
        name = contender.version.name
        if n := overlapping_events(table, contender.index.as_of, name, allow=options.allow_overlap):
            notes.append(f"{n:,} test events are not after the as-of time of {name}, which may have learned from them.")
        share = share_of_unknown(table, contender.index.catalogue.item_ids.tolist(), name)
        if share > MAX_UNKNOWN_SHARE:
            notes.append(f"{share:.0%} of the test events are of items that {name} does not know.")
    ends = [contender.index.as_of for contender in contenders]
    if ends[0] != ends[1]:
        notes.append(
            f"The versions end at different times ({ends[0]:%Y-%m-%d %H:%M} and {ends[1]:%Y-%m-%d %H:%M} UTC), so the "
            "differences come from their events as well as from their settings."
        )
    if contenders[0].version.manifest.code_version != contenders[1].version.manifest.code_version:
        notes.append("The versions were built by different code.")
    return notes


def _rows_of_ads(
    contenders: Sequence[Contender], sessions: "Sessions", options: CompareOptions
) -> list[dict[str, Any]]:
    """The rows of the slice `ads`: only items with an ad are candidates, and targets need an ad in both versions."""
    from retrieval.evaluation.paired import differences
    from retrieval.evaluation.protocols import CUTS, metrics_of, rank_ads

    deepest = max(k for name in metrics_of(options.protocol) for k in CUTS[name])
    pairs = [contender.pairs(sessions, options, ads=True) for contender in contenders]
    rankings, masks = [], []
    for contender, own_pairs in zip(contenders, pairs, strict=True):
        assert contender.index.ads is not None
        ranking, answerable = rank_ads(contender.ranker, own_pairs, contender.index.ads, deepest)
        rankings.append(ranking)
        masks.append(answerable)
    ads = {"ads": np.logical_and(*masks)}
    return differences(rankings[0].rank, rankings[1].rank, pairs[0], ads, options.protocol)


def _coverage(rankings: "Sequence[Ranking]", pairs: "Sequence[Pairs]") -> dict[str, Any]:
    from retrieval.evaluation import metrics

    a, b = (metrics.coverage(own.lists, 20, each.n_items) for own, each in zip(rankings, pairs, strict=True))
    empty = {"low": None, "high": None, "n": len(rankings[0].lists), "groups": 0}
    return {"slice": "all", "metric": "coverage", "k": 20, "a": a, "b": b, "difference": b - a, **empty}


def _verdict(row: dict[str, Any]) -> str:
    """Return in words whether the second version is better; empty for coverage, or if no difference was measured."""
    if row["metric"] == "coverage" or row["difference"] is None:
        return ""
    if row["low"] is None:
        return TOO_FEW
    return BETTER if row["low"] > 0 else WORSE if row["high"] < 0 else UNCLEAR
