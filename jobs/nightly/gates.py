"""Gates: the conditions under which a night is published. Each gate states the measured value and the allowed range.

A gate on quality fails only if the whole bootstrap interval lies outside the allowed range: noise on a small day does
not stop a night, but a real loss does. A gate on size compares with the range of the last published nights.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from jobs.config import NightlyConfig

Figures = Mapping[str, float]
Ratios = Mapping[str, Mapping[str, Sequence[float]]]


class Gate(BaseModel):
    """The result of one gate.

    Args:
        name: what is measured.
        value: the measured value (`found` in JSON); None if it is not a finite number.
        least: the smallest allowed value; None = no limit.
        most: the largest allowed value; None = no limit.
        passed: whether the value is allowed.
        remark: further facts in words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, serialize_by_alias=True)

    name: str
    value: float | None = Field(alias="found")
    least: float | None = None
    most: float | None = None
    passed: bool
    remark: str = ""

    def __str__(self) -> str:
        limits = [f"at least {self.least:.4g}"] if self.least is not None else []
        limits += [f"at most {self.most:.4g}"] if self.most is not None else []
        value = "nothing" if self.value is None else f"{self.value:.4g}"
        remark = f" ({self.remark})" if self.remark else ""
        return f"{self.name}: found {value}, allowed {' and '.join(limits) or 'anything'}{remark}"


def quality_gates(ratios: Ratios, config: NightlyConfig) -> list[Gate]:
    """Compare the fit's HR@100 on the day with those of the published version and the best counting peer.

    Args:
        ratios: model → slice (`all`, `tail`) → (ratio of the fit's HR@100 to the model's, low, high, n).
        config: the allowed drops.
    """
    gates = []
    if published := ratios.get("published"):
        drops = {"all": config.quality_drop, "tail": config.tail_quality_drop}
        gates += [
            _ratio_gate(f"HR@100 to the published version's, {part}", published[part], 1 - drop)
            for part, drop in drops.items()
            if part in published
        ]
    peers = {name: parts for name, parts in ratios.items() if name != "published"}
    for part in ("all", "tail"):
        measured = {name: parts[part] for name, parts in peers.items() if part in parts}
        if measured:
            best = min(measured, key=lambda name: measured[name][0])
            title = f"HR@100 to the best counting peer's ({best}), {part}"
            gates.append(_ratio_gate(title, measured[best], 1 - config.counting_drop))
    return gates


def coverage_gate(coverage: float, published: float | None, config: NightlyConfig) -> Gate:
    """Compare the fit's coverage@20 on the day's queries with the published version's.

    Args:
        coverage: the coverage of the fit.
        published: the coverage of the published version; None if there is none.
        config: the allowed drop.
    """
    least = None if published is None else (1 - config.coverage_drop) * published
    return _range_gate("coverage@20", coverage, least, None)


def size_gates(figures: Figures, earlier: Sequence[Figures], config: NightlyConfig) -> list[Gate]:
    """Compare the size and the mix of the graph with those of the last published nights.

    Args:
        figures: `count:<name>` is a positive count, `mix:<edge type>` that type's share of the edges, `alone` the share
            of items without an edge.
        earlier: the figures of the earlier nights.
        config: the allowed changes.
    """
    gates = []
    for name, value in figures.items():
        past = [night[name] for night in earlier if name in night]
        title = name.replace("count:", "").replace("mix:", "share of edges: ").replace("alone", "items without an edge")
        if len(past) < config.least_history:
            remark = f"{len(past)} earlier nights, fewer than {config.least_history}: not compared"
            gates.append(Gate(name=title, value=value, passed=True, remark=remark))
        elif name == "alone":
            gates.append(_range_gate(title, value, None, max(past) + config.alone_rise))
        elif name.startswith("mix:"):
            gates.append(_range_gate(title, value, min(past) - config.mix_change, max(past) + config.mix_change))
        else:
            change = 1 + config.size_change
            gates.append(_range_gate(title, value, min(past) / change, max(past) * change))
    return gates


def drift_gates(overlap: float | None, norm_error: float, config: NightlyConfig) -> list[Gate]:
    """Check the vectors of the refit, and how many neighbours of the probes stay.

    The hits of the refit cannot be measured, because no later events exist yet.

    Args:
        overlap: share of the probes' neighbours that stay; None without a published version.
        norm_error: largest distance of a vector's length from 1.
        config: the least overlap.
    """
    gates = [_range_gate("largest error of a vector's length", norm_error, None, 1e-3)]
    if overlap is not None:
        gates.append(_range_gate("neighbours of the probes that stay", overlap, config.overlap, None))
    return gates


def failed(gates: Sequence[Gate]) -> list[Gate]:
    """Return the gates that did not pass."""
    return [gate for gate in gates if not gate.passed]


def _ratio_gate(name: str, ratio: Sequence[float], least: float) -> Gate:
    value, low, high, queries = ratio
    remark = f"interval {low:.3f} to {high:.3f}, {int(queries):,} questions"
    return Gate(name=name, value=value, least=least, passed=high >= least, remark=remark)


def _range_gate(name: str, value: float, least: float | None, most: float | None) -> Gate:
    # NaN must fail even if there are no limits, hence the check that the value is finite.
    passed = math.isfinite(value) and (least is None or value >= least) and (most is None or value <= most)
    finite: Any = value if math.isfinite(value) else None
    return Gate(name=name, value=finite, least=least, most=most, passed=passed)
