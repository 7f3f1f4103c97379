"""Which values pass the gates, and how a failed gate states the measured value and the allowed range."""

import math

import pytest

from jobs.config import NightlyConfig
from jobs.nightly.gates import Gate, ads_gates, coverage_gate, drift_gates, failed, quality_gates, size_gates

CONFIG = NightlyConfig()
NIGHT = {"count:items": 1000.0, "count:edges": 30_000.0, "mix:swing": 0.3, "alone": 0.1}


def verdicts(gates: list[Gate]) -> dict[str, bool]:
    return {gate.name: gate.passed for gate in gates}


def test_a_loss_of_quality_fails_only_when_it_is_certain() -> None:
    sure = {"published": {"all": (0.8, 0.75, 0.85, 900, 300), "tail": (0.7, 0.5, 0.9, 40, 12)}}
    results = verdicts(quality_gates(sure, CONFIG))
    assert results == {
        "HR@100 to the published version's, all": False,
        "HR@100 to the published version's, tail": True,  # with few queries the loss may be noise
    }
    (bad,) = failed(quality_gates(sure, CONFIG))
    assert str(bad) == (
        "HR@100 to the published version's, all: found 0.8, allowed at least 0.95 "
        "(interval 0.750 to 0.850, 900 questions of 300 sessions)"
    )


@pytest.mark.parametrize(
    ("questions", "sessions", "passed", "remark"),
    [
        (1, 1, True, "1 questions of 1 sessions, fewer than 30 questions"),
        (29, 29, True, "29 questions of 29 sessions, fewer than 30 questions"),
        (400, 9, True, "400 questions of 9 sessions, fewer than 10"),
        (30, 10, False, "interval 0.000 to 0.000, 30 questions of 10 sessions"),
    ],
)
def test_a_gate_on_quality_needs_enough_questions(questions: int, sessions: int, passed: bool, remark: str) -> None:
    (gate,) = quality_gates({"published": {"all": (0.0, 0.0, 0.0, questions, sessions)}}, CONFIG)
    assert (gate.passed, gate.judged, gate.remark) == (passed, not passed, remark)
    assert ("not judged" in str(gate)) == passed


def test_of_baskets_each_is_one_question() -> None:
    (few,) = quality_gates({"rules": {"all": (0.5, 0.4, 0.6, 9, 9)}}, CONFIG, baskets=True)
    (enough,) = quality_gates({"rules": {"all": (0.5, 0.4, 0.6, 10, 10)}}, CONFIG, baskets=True)
    assert (few.passed, few.judged, few.remark) == (True, False, "9 baskets, fewer than 10")
    assert enough.name == "recall@100 to the best counting peer's (rules), all"
    assert (enough.passed, enough.remark) == (False, "interval 0.400 to 0.600, 10 baskets")


def test_quality_is_compared_with_the_best_counting_baseline() -> None:
    ratios = {"rules": {"all": (1.2, 1.1, 1.3, 90, 30)}, "item-kNN": {"all": (0.7, 0.6, 0.8, 90, 30)}}
    (gate,) = quality_gates(ratios, CONFIG)
    assert gate.name == "HR@100 to the best counting peer's (item-kNN), all"
    assert not gate.passed
    assert quality_gates({}, CONFIG) == []


def test_coverage_may_not_fall_far_below_what_is_published() -> None:
    assert coverage_gate(0.6, 0.8, CONFIG, 30).passed
    assert not coverage_gate(0.5, 0.8, CONFIG, 30).passed
    assert coverage_gate(0.01, None, CONFIG, 30).passed
    few = coverage_gate(0.5, 0.8, CONFIG, 29)
    assert (few.passed, few.judged, few.remark) == (True, False, "29 queries, fewer than 30")


@pytest.mark.parametrize(
    ("name", "value", "passed"),
    [
        ("count:items", 1499, True),
        ("count:items", 1501, False),
        ("count:items", 667, True),
        ("count:items", 666, False),
        ("count:edges", 0, False),
        ("mix:swing", 0.39, True),
        ("mix:swing", 0.41, False),
        ("mix:swing", 0.19, False),
        ("alone", 0.14, True),
        ("alone", 0.16, False),
        ("alone", 0.0, True),
        ("alone", math.nan, False),
    ],
)
def test_sizes_stay_near_the_range_of_the_last_nights(name: str, value: float, passed: bool) -> None:
    gates = size_gates(NIGHT | {name: value}, [NIGHT] * 3, CONFIG)
    assert (failed(gates) == []) == passed
    assert len(gates) == len(NIGHT)


def test_with_too_few_nights_nothing_is_compared_and_the_remark_says_so() -> None:
    gates = size_gates(NIGHT, [NIGHT] * 2, CONFIG)
    assert all(gate.passed and not gate.judged for gate in gates)
    assert {gate.remark for gate in gates} == {"2 earlier nights, fewer than 3"}


ADS = {"in_flight": 571, "lost_share": 0.01}


@pytest.mark.parametrize(
    ("in_flight", "lost_share", "failures"),
    [
        (571, 0.01, []),
        (286, 0.01, []),
        (285, 0.01, ["ads in flight"]),
        (1, 0.01, ["ads in flight"]),
        (0, 0.01, ["ads in flight"]),
        (1142, 0.01, []),
        (1143, 0.01, ["ads in flight"]),
        (571, 0.11, []),
        (571, 0.12, ["ads without an item"]),
    ],
)
def test_ads_stay_near_the_range_of_the_last_nights(in_flight: int, lost_share: float, failures: list[str]) -> None:
    ads = {"in_flight": in_flight, "lost_share": lost_share}
    assert [gate.name for gate in failed(ads_gates(ads, [ADS], ADS, CONFIG))] == failures
    assert [gate.name for gate in failed(ads_gates(ads, [ADS, {}, ads], ads, CONFIG))] == []


def test_a_forgotten_ads_table_fails_and_a_first_one_is_not_judged() -> None:
    (forgotten,) = ads_gates({}, [ADS], ADS, CONFIG)
    assert not forgotten.passed
    assert str(forgotten) == (
        "ads in flight: found nothing, allowed at least 1 "
        "(no ads table was given, but the night before had one, with 571 ads in flight)"
    )
    assert ads_gates({}, [], {}, CONFIG) == []
    assert ads_gates({}, [ADS], {}, CONFIG) == [], "somebody published a version without ads"
    first = ads_gates(ADS, [{}], {}, CONFIG)
    assert [(gate.name, gate.passed, gate.judged) for gate in first] == [
        ("ads in flight", True, False),
        ("ads without an item", True, False),
    ]
    assert failed(ads_gates(ADS, [{"in_flight": 0, "lost_share": 1.0}], ADS, CONFIG)) == []


def test_vectors_must_have_length_one_and_keep_enough_neighbours() -> None:
    assert failed(drift_gates(None, 1e-6, CONFIG)) == []
    names = [gate.name for gate in failed(drift_gates(0.1, math.nan, CONFIG))]
    assert names == ["largest error of a vector's length", "neighbours of the probes that stay"]


def test_a_gate_keeps_its_column_names_in_files() -> None:
    row = {"name": "edges", "found": 3.0, "least": 1.0, "most": None, "passed": True, "remark": "", "judged": True}
    assert Gate.model_validate(row).value == 3.0
    assert Gate(name="edges", value=3.0, least=1.0, passed=True).model_dump() == row
