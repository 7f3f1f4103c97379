"""The findings of a night: sentences about what is unusual, which stand at the top of the morning report."""

from collections.abc import Iterator, Sequence
from statistics import median

from jobs.nightly.gates import Gate
from jobs.nightly.record import NightRecord

# Larger changes than these are worth a look. They stop no night: only the gates set limits.
EVENTS_CHANGE, HIT_RATE_DROP = 0.3, 0.05
LEAST_DAYS = 3


def night_findings(night: NightRecord, earlier: Sequence[NightRecord]) -> list[str]:
    """Return sentences about gates that failed or were not judged, warnings, and changes since earlier days and nights.

    Args:
        night: the night.
        earlier: the records of earlier nights by date.
    """
    return [*_of_gates(night), *night.doubts, *_of_events(night), *_of_quality(night, earlier), *_unjudged(night)]


def gate_title(name: str) -> str:
    """Return the name of a gate, with the labels that all reports use for edge types."""
    from graph_build.report.terms import EDGE_LABELS

    for edge_type, label in EDGE_LABELS.items():
        name = name.replace(f"share of edges: {edge_type}", f"share of edges: {label}")
    return name


def _of_gates(night: NightRecord) -> Iterator[str]:
    for gate in night.gates:
        if not gate.passed:
            verdict = "failed, and was overridden with --force" if gate.name in night.forced else "failed"
            yield f"The gate on {gate_title(gate.name)} {verdict}: {_measured(gate)}."


def _measured(gate: Gate) -> str:
    limits = [f"at least {gate.least:,.4g}"] if gate.least is not None else []
    limits += [f"at most {gate.most:,.4g}"] if gate.most is not None else []
    value = "nothing was measured" if gate.value is None else f"{gate.value:,.4g} was measured"
    allowed = f", {' and '.join(limits)} is allowed" if limits else ""
    return f"{value}{allowed}{'; ' + gate.remark if gate.remark else ''}"


def _of_events(night: NightRecord) -> Iterator[str]:
    *before, last = [night.days[day] for day in sorted(night.days)] or [0]
    if len(before) < LEAST_DAYS or not (usual := median(before)):
        return
    change = last / usual - 1
    if abs(change) > EVENTS_CHANGE:
        yield (
            f"The last day has {last:,} item events, {abs(change):.0%} {'more' if change > 0 else 'fewer'} than the "
            f"median of the {len(before)} days before ({usual:,.0f})."
        )


def _of_quality(night: NightRecord, earlier: Sequence[NightRecord]) -> Iterator[str]:
    metric = night.hit_rate
    for part in ("all", "tail"):
        now = night.value("fit", metric, part, 100)
        past = [value for record in earlier if (value := record.value("fit", metric, part, 100)) is not None]
        if now is not None and past and now < past[-1] * (1 - HIT_RATE_DROP):
            what = f"{'' if part == 'all' else part + ' '}{metric}@100"
            yield f"The fit's {what} fell from {past[-1]:.3f} on the night before to {now:.3f}."


def _unjudged(night: NightRecord) -> Iterator[str]:
    names = [gate_title(gate.name) for gate in night.gates if not gate.judged]
    if names:
        what = "1 gate was" if len(names) == 1 else f"{len(names)} gates were"
        yield f"{what} not judged, for want of history or of data: {', '.join(names)}."
