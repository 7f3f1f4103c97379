"""Gates: the conditions under which a night is published. Each gate states the measured value and the allowed range.

A gate on hits (HR@100, or recall@100 of baskets) fails only if the whole bootstrap interval lies outside the allowed
range. So noise on a small day does not stop a night, but a real loss does. A gate on size or ads compares a value with
the range of the last published nights. A gate is not judged if there is too little data for it; its remark says so.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from jobs.config import NightlyConfig

Figures = Mapping[str, float]
AdFigures = Mapping[str, Any]
Ratios = Mapping[str, Mapping[str, Sequence[float]]]


class Gate(BaseModel):
    """The result of one gate.

    Args:
        name: what is measured.
        value: the measured value (`found` in JSON); None if nothing was measured, or if it is not a finite number.
        least: the smallest allowed value; None = no limit.
        most: the largest allowed value; None = no limit.
        passed: whether the value is allowed; True if the gate is not judged.
        remark: further facts in words.
        judged: False if there is too little data to judge by; the remark says what is missing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, serialize_by_alias=True)

    name: str
    value: float | None = Field(alias="found")
    least: float | None = None
    most: float | None = None
    passed: bool
    remark: str = ""
    judged: bool = True

    @property
    def verdict(self) -> str:
        """The result in one or two words."""
        return "not judged" if not self.judged else "ok" if self.passed else "FAILED"

    def __str__(self) -> str:
        limits = [f"at least {self.least:.4g}"] if self.least is not None else []
        limits += [f"at most {self.most:.4g}"] if self.most is not None else []
        value = "nothing" if self.value is None else f"{self.value:.4g}"
        if not self.judged:
            return f"{self.name}: found {value}, not judged ({self.remark})"
        remark = f" ({self.remark})" if self.remark else ""
        return f"{self.name}: found {value}, allowed {' and '.join(limits) or 'anything'}{remark}"


def quality_gates(ratios: Ratios, config: NightlyConfig, *, baskets: bool = False) -> list[Gate]:
    """Compare the fit's HR@100 on the day with the HR@100 of the published version and of the best counting peer.

    Args:
        ratios: model → slice (`all`, `tail`) → (ratio of the fit's HR@100 to the model's, low, high, questions,
            sessions). For baskets, recall@100 is compared, and each basket is one question.
        config: the allowed drops.
        baskets: whether the day's baskets were measured, because no session of the day has two items.
    """
    gates = []
    metric = "recall@100" if baskets else "HR@100"

    def gate(to: str, ratio: Sequence[float], least: float) -> Gate:
        return _ratio_gate(f"{metric} to {to}", ratio, least, config, "baskets" if baskets else "sessions")

    if published := ratios.get("published"):
        drops = {"all": config.quality_drop, "tail": config.tail_quality_drop}
        gates += [
            gate(f"the published version's, {part}", published[part], 1 - drop)
            for part, drop in drops.items()
            if part in published
        ]
    peers = {name: parts for name, parts in ratios.items() if name != "published"}
    for part in ("all", "tail"):
        measured = {name: parts[part] for name, parts in peers.items() if part in parts}
        if measured:
            best = min(measured, key=lambda name: measured[name][0])
            gates.append(gate(f"the best counting peer's ({best}), {part}", measured[best], 1 - config.counting_drop))
    return gates


def unmeasured_gate(date: str) -> Gate:
    """Return the gate on quality for a day on which nothing can be measured.

    Args:
        date: the day.
    """
    remark = f"no session or basket in the judging half of {date} has two items"
    return Gate(name="quality on the day", value=None, passed=True, judged=False, remark=remark)


def coverage_gate(coverage: float, published: float | None, config: NightlyConfig, queries: int) -> Gate:
    """Compare the fit's coverage@20 on the day's queries with the coverage@20 of the published version.

    Args:
        coverage: the coverage of the fit.
        published: the coverage of the published version; None if there is none.
        config: the allowed drop.
        queries: number of queries.
    """
    if queries < config.least_questions:
        remark = f"{queries} queries, fewer than {config.least_questions}"
        return Gate(name="coverage@20", value=coverage, passed=True, judged=False, remark=remark)
    least = None if published is None else (1 - config.coverage_drop) * published
    return _range_gate("coverage@20", coverage, least, None)


def size_gates(figures: Figures, earlier: Sequence[Figures], config: NightlyConfig) -> list[Gate]:
    """Compare the size and the mix of the graph with those of the last published nights.

    Args:
        figures: `count:<name>` is a positive count, `mix:<edge type>` is the share of the edges that have this type,
            and `alone` is the share of items without an edge.
        earlier: the figures of the earlier nights.
        config: the allowed changes.
    """
    gates = []
    for name, value in figures.items():
        past = [night[name] for night in earlier if name in night]
        title = name.replace("count:", "").replace("mix:", "share of edges: ").replace("alone", "items without an edge")
        if len(past) < config.least_history:
            remark = f"{len(past)} earlier nights, fewer than {config.least_history}"
            gates.append(Gate(name=title, value=value, passed=True, judged=False, remark=remark))
        elif name == "alone":
            gates.append(_range_gate(title, value, None, max(past) + config.alone_rise))
        elif name.startswith("mix:"):
            gates.append(_range_gate(title, value, min(past) - config.mix_change, max(past) + config.mix_change))
        else:
            change = 1 + config.size_change
            gates.append(_range_gate(title, value, min(past) / change, max(past) * change))
    return gates


def ads_gates(ads: AdFigures, earlier: Sequence[AdFigures], last: AdFigures, config: NightlyConfig) -> list[Gate]:
    """Compare the ads with those of the last published nights.

    Args:
        ads: figures of the night's ads table: `in_flight` is the number of ads that can be shown at the as-of time, and
            `lost_share` is the share of ads without an item. Empty without an ads table.
        earlier: the same figures of the earlier nights.
        last: the same figures of the last published night, even if that was published with --force.
        config: the allowed changes.
    """
    if not ads:
        if not last:
            return []
        remark = f"no ads table was given, but the night before had one, with {last['in_flight']:,} ads in flight"
        return [Gate(name="ads in flight", value=None, least=1, passed=False, remark=remark)]
    past = [night for night in earlier if night]
    if not past:
        titles = {"ads in flight": "in_flight", "ads without an item": "lost_share"}
        remark = "no earlier night had an ads table"
        return [
            Gate(name=title, value=ads[key], passed=True, judged=False, remark=remark) for title, key in titles.items()
        ]
    change = 1 + config.ads_change
    counts, shares = ([night[key] for night in past] for key in ("in_flight", "lost_share"))
    # If a shop had no ad in flight before, any number is allowed.
    most = max(counts) * change or None
    return [
        _range_gate("ads in flight", ads["in_flight"], min(counts) / change, most),
        _range_gate("ads without an item", ads["lost_share"], None, max(shares) + config.ads_lost_rise),
    ]


def drift_gates(overlap: float | None, norm_error: float, config: NightlyConfig) -> list[Gate]:
    """Check the length of the refit's vectors, and how many neighbours of the probes stay the same.

    The hits of the refit cannot be measured, because no later events exist yet.

    Args:
        overlap: share of the probes' neighbours that stay the same; None without a published version.
        norm_error: largest difference between 1 and the length of a vector.
        config: the smallest allowed overlap.
    """
    gates = [_range_gate("largest error of a vector's length", norm_error, None, 1e-3)]
    if overlap is not None:
        gates.append(_range_gate("neighbours of the probes that stay", overlap, config.overlap, None))
    return gates


def failed(gates: Sequence[Gate]) -> list[Gate]:
    """Return the gates that did not pass."""
    return [gate for gate in gates if not gate.passed]


def _ratio_gate(name: str, ratio: Sequence[float], least: float, config: NightlyConfig, groups: str) -> Gate:
    value, low, high, questions, n_groups = ratio
    basis = f"{int(n_groups):,} {groups}"
    if groups == "sessions":
        basis = f"{int(questions):,} questions of {basis}"
        if questions < config.least_questions:
            remark = f"{basis}, fewer than {config.least_questions} questions"
            return Gate(name=name, value=value, passed=True, judged=False, remark=remark)
    if n_groups < config.least_sessions:
        remark = f"{basis}, fewer than {config.least_sessions}"
        return Gate(name=name, value=value, passed=True, judged=False, remark=remark)
    remark = f"interval {low:.3f} to {high:.3f}, {basis}"
    return Gate(name=name, value=value, least=least, passed=high >= least, remark=remark)


def _range_gate(name: str, value: float, least: float | None, most: float | None) -> Gate:
    # NaN must fail even if there are no limits, hence the check that the value is finite.
    passed = math.isfinite(value) and (least is None or value >= least) and (most is None or value <= most)
    finite: Any = value if math.isfinite(value) else None
    return Gate(name=name, value=finite, least=least, most=most, passed=passed)
