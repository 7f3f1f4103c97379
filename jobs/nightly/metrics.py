"""The last night's numbers for Prometheus: the content of `nights/lightsage.prom`, for node_exporter's textfiles."""

import datetime as dt
from typing import Any

from jobs.nightly.record import NightRecord
from jobs.nightly.report import OUTCOMES


def metrics_text(night: NightRecord) -> str:
    """Return the metrics of one night in Prometheus's text format."""
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    registry = CollectorRegistry()

    def gauge(name: str, help_text: str, value: float) -> None:
        Gauge(f"lightsage_night_{name}", help_text, registry=registry).set(value)

    def gauges(name: str, help_text: str, label: str, values: dict[str, Any]) -> None:
        family = Gauge(f"lightsage_night_{name}", help_text, [label], registry=registry)
        for label_value, value in values.items():
            family.labels(label_value).set(value)

    gauge("end_timestamp_seconds", "When the last night ended", (night.ended or night.began).timestamp())
    midnight = dt.datetime.combine(night.date, dt.time(), dt.UTC)
    gauge("date_timestamp_seconds", "The date that the last night built", midnight.timestamp())
    outcomes = {name: name == night.outcome for name in OUTCOMES}
    gauges("outcome", "1 for the outcome of the last night, 0 for the others", "outcome", outcomes)
    gauge("gates_failed", "Gates that did not pass", sum(not gate.passed for gate in night.gates))
    gauge("gates_forced", "Gates that --force overrode", len(night.forced))
    seconds = {stage["name"]: stage["seconds"] for stage in night.stages}
    gauges("stage_seconds", "Wall time of each stage", "stage", seconds)
    gauges("quality", "HR@100 of the fit on the day", "slice", _hit_rates(night))
    gauges("edges", "Edges of each type", "type", night.edges)
    if night.overlap is not None:
        gauge("overlap", "Share of the probes' neighbours that stay", night.overlap)
    return generate_latest(registry).decode()


def _hit_rates(night: NightRecord) -> dict[str, float]:
    """Slice → HR@100 of the fit."""
    return {
        row["slice"]: row["value"]
        for row in night.quality
        if row["model"] == "fit" and row["k"] == 100 and row["value"] is not None
    }
