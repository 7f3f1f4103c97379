"""Which values pass the gates, and how a failed gate states the measured value and the allowed range."""

import math

import pytest

from jobs.config import NightlyConfig
from jobs.nightly.gates import Gate, coverage_gate, drift_gates, failed, quality_gates, size_gates

CONFIG = NightlyConfig()
NIGHT = {"count:items": 1000.0, "count:edges": 30_000.0, "mix:swing": 0.3, "alone": 0.1}


def verdicts(gates: list[Gate]) -> dict[str, bool]:
    return {gate.name: gate.passed for gate in gates}


def test_a_loss_of_quality_fails_only_when_it_is_certain() -> None:
    sure = {"published": {"all": (0.8, 0.75, 0.85, 900), "tail": (0.7, 0.5, 0.9, 40)}}
    results = verdicts(quality_gates(sure, CONFIG))
    assert results == {
        "HR@100 to the published version's, all": False,
        "HR@100 to the published version's, tail": True,  # with few queries it may be noise
    }
    (bad,) = failed(quality_gates(sure, CONFIG))
    assert str(bad) == (
        "HR@100 to the published version's, all: found 0.8, allowed at least 0.95 "
        "(interval 0.750 to 0.850, 900 questions)"
    )


def test_quality_is_compared_with_the_best_counting_baseline() -> None:
    ratios = {"rules": {"all": (1.2, 1.1, 1.3, 9)}, "item-kNN": {"all": (0.7, 0.6, 0.8, 9)}}
    (gate,) = quality_gates(ratios, CONFIG)
    assert gate.name == "HR@100 to the best counting peer's (item-kNN), all"
    assert not gate.passed
    assert quality_gates({}, CONFIG) == []


def test_coverage_may_not_fall_far_below_what_is_published() -> None:
    assert coverage_gate(0.6, 0.8, CONFIG).passed
    assert not coverage_gate(0.5, 0.8, CONFIG).passed
    assert coverage_gate(0.01, None, CONFIG).passed


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
    assert all(gate.passed and "2 earlier nights, fewer than 3" in gate.remark for gate in gates)


def test_vectors_must_have_length_one_and_keep_enough_neighbours() -> None:
    assert failed(drift_gates(None, 1e-6, CONFIG)) == []
    names = [gate.name for gate in failed(drift_gates(0.1, math.nan, CONFIG))]
    assert names == ["largest error of a vector's length", "neighbours of the probes that stay"]


def test_a_gate_keeps_its_column_names_in_files() -> None:
    row = {"name": "edges", "found": 3.0, "least": 1.0, "most": None, "passed": True, "remark": ""}
    assert Gate.model_validate(row).value == 3.0
    assert Gate(name="edges", value=3.0, least=1.0, passed=True).model_dump() == row
