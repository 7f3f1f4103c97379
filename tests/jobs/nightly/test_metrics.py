"""The Prometheus metrics of a night keep their names, labels and values."""

import datetime as dt

from prometheus_client.parser import text_string_to_metric_families

from jobs.nightly.metrics import metrics_text
from jobs.nightly.record import NightRecord
from tests.jobs.nightly.nights import DAY, published_night

# Written by hand.
BY_HAND = """\
# TYPE lightsage_night_begin_timestamp_seconds gauge
lightsage_night_begin_timestamp_seconds 1772852172.0
# TYPE lightsage_night_end_timestamp_seconds gauge
lightsage_night_end_timestamp_seconds 1772852400.0
# TYPE lightsage_night_date_timestamp_seconds gauge
lightsage_night_date_timestamp_seconds 1772755200.0
# TYPE lightsage_night_outcome gauge
lightsage_night_outcome{outcome="published"} 1.0
lightsage_night_outcome{outcome="unchanged"} 0.0
lightsage_night_outcome{outcome="held"} 0.0
lightsage_night_outcome{outcome="refused"} 0.0
lightsage_night_outcome{outcome="failed"} 0.0
lightsage_night_outcome{outcome="running"} 0.0
# TYPE lightsage_night_gates_failed gauge
lightsage_night_gates_failed 1
# TYPE lightsage_night_gates_forced gauge
lightsage_night_gates_forced 0
# TYPE lightsage_night_gates_not_judged gauge
lightsage_night_gates_not_judged 1
# TYPE lightsage_night_stage_seconds gauge
lightsage_night_stage_seconds{stage="graph"} 3.25
# TYPE lightsage_night_quality gauge
lightsage_night_quality{slice="all"} 0.41
lightsage_night_quality{slice="tail"} 0.41
lightsage_night_quality{slice="cold"} 0.41
# TYPE lightsage_night_edges gauge
lightsage_night_edges{type="swing"} 9
lightsage_night_edges{type="co_search"} 0
# TYPE lightsage_night_refused_rows gauge
lightsage_night_refused_rows{table="events",reason="no_item"} 2
# TYPE lightsage_night_ads gauge
lightsage_night_ads{status="active"} 6
lightsage_night_ads{status="paused"} 1
# TYPE lightsage_night_ads_in_flight gauge
lightsage_night_ads_in_flight 5
# TYPE lightsage_night_ads_without_item gauge
lightsage_night_ads_without_item 1
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
        for name in (
            "begin_timestamp_seconds",
            "end_timestamp_seconds",
            "date_timestamp_seconds",
            "outcome",
            "gates_failed",
            "gates_forced",
            "gates_not_judged",
        )
    }


def test_a_second_attempt_shows_its_own_outcome_and_the_figures_of_the_night_that_stands() -> None:
    second = NightRecord(date=DAY, ended=dt.datetime(2026, 3, 8, 3, tzinfo=dt.UTC), outcome="unchanged")
    shown = samples(metrics_text(second, published_night()))
    own = ("begin_timestamp_seconds", "end_timestamp_seconds", "outcome")
    figures = [sample for sample in samples(BY_HAND) if not sample[1].endswith(own)]
    assert [sample for sample in shown if not sample[1].endswith(own)] == figures
    assert ("gauge", "lightsage_night_outcome", {"outcome": "unchanged"}, 1.0) in shown
    assert ("gauge", "lightsage_night_end_timestamp_seconds", {}, 1772938800.0) in shown


def test_an_attempt_that_runs_has_no_end_and_no_outcome_yet() -> None:
    shown = samples(metrics_text(NightRecord(date=DAY), running=True))
    assert [labels["outcome"] for _, name, labels, value in shown if name.endswith("outcome") and value] == ["running"]
    assert "lightsage_night_end_timestamp_seconds" not in {name for _, name, _, _ in shown}


def test_a_label_may_hold_any_text() -> None:
    night = published_night().model_copy(update={"edges": {'a "b"\n\\': 1}})
    assert ("gauge", "lightsage_night_edges", {"type": 'a "b"\n\\'}, 1.0) in samples(metrics_text(night))
