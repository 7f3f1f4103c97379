"""The metrics of the last attempt at a night, in Prometheus's format.

They are written to `nights/lightsage.prom`, which node_exporter collects.
"""

import datetime as dt
from typing import Any

from jobs.nightly.record import NightRecord
from jobs.nightly.report import OUTCOMES

RUNNING = "running"


def metrics_text(attempt: NightRecord, standing: NightRecord | None = None, *, running: bool = False) -> str:
    """Return the metrics of one attempt at a night in Prometheus's text format.

    Args:
        attempt: the last attempt, whose times and outcome are shown.
        standing: the record of the date's published night, if the attempt did not replace it; its figures are shown.
            None = the figures of the attempt are shown.
        running: whether the attempt has not ended yet.
    """
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    registry = CollectorRegistry()

    def gauge(name: str, help_text: str, value: float) -> None:
        Gauge(f"lightsage_night_{name}", help_text, registry=registry).set(value)

    def gauges(name: str, help_text: str, labels: str | list[str], values: dict[Any, Any]) -> None:
        names = [labels] if isinstance(labels, str) else labels
        family = Gauge(f"lightsage_night_{name}", help_text, names, registry=registry)
        for label_values, value in values.items():
            family.labels(*([label_values] if isinstance(label_values, str) else label_values)).set(value)

    gauge("begin_timestamp_seconds", "When the last attempt began", attempt.began.timestamp())
    if not running:
        gauge("end_timestamp_seconds", "When the last attempt ended", (attempt.ended or attempt.began).timestamp())
    midnight = dt.datetime.combine(attempt.date, dt.time(), dt.UTC)
    gauge("date_timestamp_seconds", "The date of the last attempt", midnight.timestamp())
    outcome = RUNNING if running else attempt.outcome
    outcomes = {name: name == outcome for name in (*OUTCOMES, RUNNING)}
    gauges("outcome", "1 for the outcome of the last attempt, 0 for the others", "outcome", outcomes)
    night = standing or attempt
    gauge("gates_failed", "Gates that did not pass", sum(not gate.passed for gate in night.gates))
    gauge("gates_forced", "Gates that --force overrode", len(night.forced))
    gauge("gates_not_judged", "Gates that had too little to judge by", sum(not gate.judged for gate in night.gates))
    seconds = {stage["name"]: stage["seconds"] for stage in night.stages}
    gauges("stage_seconds", "Wall time of each stage", "stage", seconds)
    gauges("quality", "HR@100 of the fit on the day; of baskets, recall@100", "slice", _hit_rates(night))
    gauges("edges", "Edges of each type", "type", night.edges)
    gauges("refused_rows", "Refused rows of the input", ["table", "reason"], _refused(night))
    gauges("ads", "Ads with each status", "status", night.ads.get("by_status", {}))
    for name, help_text in (
        ("in_flight", "Ads that can be shown at the as-of time"),
        ("without_item", "Ads whose item is unknown"),
    ):
        if name in night.ads:
            gauge(f"ads_{name}", help_text, night.ads[name])
    if night.overlap is not None:
        gauge("overlap", "Share of the probes' neighbours that stay", night.overlap)
    return generate_latest(registry).decode()


def _refused(night: NightRecord) -> dict[tuple[str, str], int]:
    """Return (table, reason) → number of refused rows."""
    return {(table, reason): n for table, reasons in night.quarantined.items() for reason, n in reasons.items()}


def _hit_rates(night: NightRecord) -> dict[str, float]:
    """Return slice → HR@100 of the fit; for baskets, recall@100."""
    return {
        row["slice"]: row["value"]
        for row in night.quality
        if row["model"] == "fit" and row["k"] == 100 and row["value"] is not None
    }
