"""The cache keeps the values that were used last, within its limit of bytes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.byte_cache import ENTRY_BYTES, ByteCache


def test_what_was_used_longest_ago_goes_first() -> None:
    cache = ByteCache(3 * (ENTRY_BYTES + 100))
    for key in "abc":
        cache.put(key, key.upper(), 100)
    assert cache.get("a") == "A"
    cache.put("d", "D", 100)
    assert [cache.get(key) for key in "abcd"] == ["A", None, "C", "D"]
    assert cache.put("a", "another", 100) == "A", "a value that is kept stays"
    assert cache.nbytes == 3 * (ENTRY_BYTES + 100)


def test_a_value_that_grows_takes_the_room_of_others_but_never_more_than_there_is() -> None:
    cache = ByteCache(10 * ENTRY_BYTES)
    first, second = object(), object()
    cache.put("first", first, 0)
    cache.put("second", second, 0)
    assert cache.grow("second", second, 9 * ENTRY_BYTES)
    assert cache.get("first") is None
    assert not cache.grow("second", second, 1)
    assert not cache.grow("first", first, 1), "what is not kept does not grow"
    assert not cache.grow("second", first, 1), "nor does another value under its key"
    assert cache.nbytes == 10 * ENTRY_BYTES
    assert cache.put("large", 1, 9 * ENTRY_BYTES + 1) == 1
    assert cache.get("large") is None
    assert cache.get("second") is second, "a value above the limit drives nothing out"


@given(
    st.integers(0, 20) | st.just(0),
    st.lists(st.tuples(st.sampled_from(["put", "grow", "clear"]), st.integers(0, 9), st.integers(0, 8)), max_size=300),
)
def test_the_limit_holds_after_every_step(limit: int, steps: list) -> None:
    cache = ByteCache(limit * ENTRY_BYTES)
    values: dict[int, object] = {}
    for step, key, size in steps:
        if step == "put":
            values[key] = cache.put(key, values.get(key, object()), size * ENTRY_BYTES)
        elif step == "grow" and key in values:
            cache.grow(key, values[key], size * ENTRY_BYTES)
        elif step == "clear":
            cache.clear()
            assert all(cache.get(key) is None for key in range(10))
        assert 0 <= cache.nbytes <= limit * ENTRY_BYTES


def test_a_full_cache_is_cleared_little_by_little() -> None:
    cache = ByteCache(10**9)
    for key in range(1000):
        cache.put(key, np.zeros(10), 80)
    cache.clear()
    assert cache.get(5) is None
    before = cache.nbytes
    assert before > 0
    for key in range(20):
        cache.put(-key, 1, 0)
    assert cache.nbytes == pytest.approx(20 * ENTRY_BYTES, abs=ENTRY_BYTES)
