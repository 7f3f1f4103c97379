"""Gates: what passes, what fails, and that each says what it found and what is allowed."""

import math

import pytest

from jobs.config import NightlyConfig
from jobs.nightly.gates import Gate, canaries, coverage, failed, quality, sizes

CONFIG = NightlyConfig()
NIGHT = {"count:items": 1000.0, "count:edges": 30_000.0, "mix:swing": 0.3, "alone": 0.1}


def verdicts(gates: list[Gate]) -> dict[str, bool]:
    return {gate.name: gate.passed for gate in gates}


def test_a_loss_of_quality_fails_only_when_it_is_sure() -> None:
    sure = {"published": {"all": (0.8, 0.75, 0.85, 900), "tail": (0.7, 0.5, 0.9, 40)}}
    found = verdicts(quality(sure, CONFIG))
    assert found == {
        "HR@100 to the published version's, all": False,
        "HR@100 to the published version's, tail": True,  # few questions: it may be noise
    }
    (bad,) = failed(quality(sure, CONFIG))
    assert str(bad) == (
        "HR@100 to the published version's, all: found 0.8, allowed at least 0.95 "
        "(interval 0.750 to 0.850, 900 questions)"
    )


def test_the_best_counting_peer_counts() -> None:
    ratios = {"rules": {"all": (1.2, 1.1, 1.3, 9)}, "item-kNN": {"all": (0.7, 0.6, 0.8, 9)}}
    (gate,) = quality(ratios, CONFIG)
    assert gate.name == "HR@100 to the best counting peer's (item-kNN), all"
    assert not gate.passed
    assert quality({}, CONFIG) == []


def test_coverage_may_not_fall_far_below_what_is_published() -> None:
    assert coverage(0.6, 0.8, CONFIG).passed
    assert not coverage(0.5, 0.8, CONFIG).passed
    assert coverage(0.01, None, CONFIG).passed


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
    gates = sizes(NIGHT | {name: value}, [NIGHT] * 3, CONFIG)
    bad = failed(gates)
    assert [len(bad) == 0] == [passed]
    assert len(gates) == len(NIGHT)


def test_without_enough_nights_nothing_is_compared_and_it_is_said() -> None:
    gates = sizes(NIGHT, [NIGHT] * 2, CONFIG)
    assert all(gate.passed and "2 earlier nights, fewer than 3" in gate.remark for gate in gates)


def test_canaries() -> None:
    assert failed(canaries(None, 1e-6, CONFIG)) == []
    names = [gate.name for gate in failed(canaries(0.1, math.nan, CONFIG))]
    assert names == ["largest error of a vector's length", "neighbours of the probes that stay"]
