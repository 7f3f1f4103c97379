"""The Prometheus metrics of a night keep their names, labels and values."""

import datetime as dt

from prometheus_client.parser import text_string_to_metric_families

from jobs.nightly.metrics import metrics_text
from jobs.nightly.record import NightRecord
from tests.jobs.nightly.nights import published_night

# The text of the same night from before prometheus-client wrote it.
BY_HAND = """\
# TYPE lightsage_night_end_timestamp_seconds gauge
lightsage_night_end_timestamp_seconds 1772852400.0
# TYPE lightsage_night_date_timestamp_seconds gauge
lightsage_night_date_timestamp_seconds 1772755200.0
# TYPE lightsage_night_outcome gauge
lightsage_night_outcome{outcome="published"} 1.0
lightsage_night_outcome{outcome="unchanged"} 0.0
lightsage_night_outcome{outcome="refused"} 0.0
lightsage_night_outcome{outcome="failed"} 0.0
# TYPE lightsage_night_gates_failed gauge
lightsage_night_gates_failed 1
# TYPE lightsage_night_gates_forced gauge
lightsage_night_gates_forced 0
# TYPE lightsage_night_stage_seconds gauge
lightsage_night_stage_seconds{stage="graph"} 3.25
# TYPE lightsage_night_quality gauge
lightsage_night_quality{slice="all"} 0.41
lightsage_night_quality{slice="tail"} 0.41
lightsage_night_quality{slice="cold"} 0.41
# TYPE lightsage_night_edges gauge
lightsage_night_edges{type="swing"} 9
lightsage_night_edges{type="co_search"} 0
# TYPE lightsage_night_overlap gauge
lightsage_night_overlap 0.8
"""


def samples(text: str) -> list[tuple[str, str, dict[str, str], float]]:
    return [
        (family.type, sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]


def test_names_labels_and_values_are_those_that_were_written_by_hand() -> None:
    assert samples(metrics_text(published_night())) == samples(BY_HAND)


def test_a_night_that_failed_at_once_has_no_overlap_and_no_stage() -> None:
    night = NightRecord(date=dt.date(2026, 3, 6), ended=dt.datetime(2026, 3, 7, 3, tzinfo=dt.UTC))
    names = {name for _, name, _, _ in samples(metrics_text(night))}
    assert names == {
        f"lightsage_night_{name}"
        for name in ("end_timestamp_seconds", "date_timestamp_seconds", "outcome", "gates_failed", "gates_forced")
    }


def test_a_label_may_hold_any_text() -> None:
    night = published_night().model_copy(update={"edges": {'a "b"\n\\': 1}})
    assert ("gauge", "lightsage_night_edges", {"type": 'a "b"\n\\'}, 1.0) in samples(metrics_text(night))
