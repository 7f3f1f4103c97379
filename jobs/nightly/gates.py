"""Gates: what must hold before a night is published. Each says what was found and what is allowed.

A gate on quality fails when the whole bootstrap interval lies beyond what is allowed, so that a small day's noise stops
no night, and a real loss does. A gate on size compares with the range of the last published nights.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from jobs.config import NightlyConfig

Figures = Mapping[str, float]
Ratios = Mapping[str, Mapping[str, Sequence[float]]]


class Gate(BaseModel):
    """One gate: its figure as found, the least and the most that is allowed (None = no limit), and a remark."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    found: float | None
    least: float | None = None
    most: float | None = None
    passed: bool
    remark: str = ""

    def __str__(self) -> str:
        limits = [f"at least {self.least:.4g}"] if self.least is not None else []
        limits += [f"at most {self.most:.4g}"] if self.most is not None else []
        found = "nothing" if self.found is None else f"{self.found:.4g}"
        more = f" ({self.remark})" if self.remark else ""
        return f"{self.name}: found {found}, allowed {' and '.join(limits) or 'anything'}{more}"


def quality(ratios: Ratios, config: NightlyConfig) -> list[Gate]:
    """The fit's HR@100 on the day beside the published version's and the best counting peer's, on all and the tail."""
    gates = []
    if published := ratios.get("published"):
        drops = {"all": config.quality_drop, "tail": config.tail_quality_drop}
        gates += [
            _ratio(f"HR@100 to the published version's, {part}", published[part], 1 - drop)
            for part, drop in drops.items()
            if part in published
        ]
    counting = {name: found for name, found in ratios.items() if name != "published"}
    for part in ("all", "tail"):
        there = {name: found[part] for name, found in counting.items() if part in found}
        if there:
            best = min(there, key=lambda name: there[name][0])
            title = f"HR@100 to the best counting peer's ({best}), {part}"
            gates.append(_ratio(title, there[best], 1 - config.counting_drop))
    return gates


def coverage(found: float, published: float | None, config: NightlyConfig) -> Gate:
    """Coverage@20 of the fit on the day's questions beside the published version's."""
    least = None if published is None else (1 - config.coverage_drop) * published
    return _within("coverage@20", found, least, None)


def sizes(found: Figures, before: Sequence[Figures], config: NightlyConfig) -> list[Gate]:
    """Counts of the graph, shares of its edge types and of lonely items, beside those of the last published nights.

    Args:
        found: `count:<name>` positive counts, `mix:<edge type>` shares, `alone` a share.
        before: the same of the nights.
    """
    gates = []
    for name, value in found.items():
        past = [night[name] for night in before if name in night]
        title = name.replace("count:", "").replace("mix:", "share of edges: ").replace("alone", "items without an edge")
        if len(past) < config.least_history:
            remark = f"{len(past)} earlier nights, fewer than {config.least_history}: not compared"
            gates.append(Gate(name=title, found=value, passed=True, remark=remark))
        elif name == "alone":
            gates.append(_within(title, value, None, max(past) + config.alone_rise))
        elif name.startswith("mix:"):
            gates.append(_within(title, value, min(past) - config.mix_change, max(past) + config.mix_change))
        else:
            change = 1 + config.size_change
            gates.append(_within(title, value, min(past) / change, max(past) * change))
    return gates


def canaries(overlap: float | None, worst_norm: float, config: NightlyConfig) -> list[Gate]:
    """The refit, which nothing honest can judge by hits: its vectors, and how many probes' neighbours stay."""
    gates = [_within("largest error of a vector's length", worst_norm, None, 1e-3)]
    if overlap is not None:
        gates.append(_within("neighbours of the probes that stay", overlap, config.overlap, None))
    return gates


def failed(gates: Sequence[Gate]) -> list[Gate]:
    """Those that do not pass."""
    return [gate for gate in gates if not gate.passed]


def _ratio(name: str, found: Sequence[float], least: float) -> Gate:
    value, low, high, n = found
    remark = f"interval {low:.3f} to {high:.3f}, {int(n):,} questions"
    return Gate(name=name, found=value, least=least, passed=high >= least, remark=remark)


def _within(name: str, found: float, least: float | None, most: float | None) -> Gate:
    # NaN passes no comparison, so that a figure that is none fails.
    passed = math.isfinite(found) and (least is None or found >= least) and (most is None or found <= most)
    shown: Any = found if math.isfinite(found) else None
    return Gate(name=name, found=shown, least=least, most=most, passed=passed)
