"""The weight of a day."""

from graph_build.decay import weight_of_day


def test_a_day_long_after_the_as_of_day_weighs_as_much_as_that_day() -> None:
    assert weight_of_day(20_000, 10, 1.0) == weight_of_day(10, 10, 1.0) == 1 << 32
