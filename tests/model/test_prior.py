"""The shift of demand compared with a plain loop, and for steady and rising items."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model.config import PriorConfig
from model.prior import prior_shift

PAIRS = st.lists(st.tuples(st.integers(0, 5), st.floats(0, 30, width=32)), max_size=40)


@given(pairs=PAIRS, half_life=st.floats(0.1, 10), pseudo=st.floats(0.1, 10))
def test_equals_one_item_at_a_time(pairs: list[tuple[int, float]], half_life: float, pseudo: float) -> None:
    config = PriorConfig(half_life_days=half_life, pseudo_count=pseudo)
    targets, age = np.array([j for j, _ in pairs], np.int64), np.array([a for _, a in pairs], np.float32)
    shift = prior_shift(targets, age, 6, config)
    lately = sum(0.5 ** (a / half_life) for _, a in pairs)
    for item in range(6):
        recent = sum(0.5 ** (a / half_life) for j, a in pairs if j == item)
        expected = sum(j == item for j, _ in pairs) * lately / max(1, len(pairs))
        assert math.isclose(shift[item], math.log((recent + pseudo) / (expected + pseudo)), abs_tol=1e-5)


def test_a_steady_item_does_not_move_and_a_rising_item_gains() -> None:
    steady = np.repeat(np.arange(10), 2)
    days = np.tile([0.0, 9.0], 10)
    np.testing.assert_allclose(prior_shift(steady, days, 10, PriorConfig()), 0, atol=1e-6)
    days[steady == 3], days[steady == 4] = 0.0, 9.0
    shift = prior_shift(steady, days, 12, PriorConfig())
    assert shift[3] > 0 > shift[4]
    assert shift[10] == shift[11] == 0
