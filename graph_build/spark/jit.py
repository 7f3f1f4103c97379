"""Compilation of the kernels."""

import os
from collections.abc import Callable
from typing import Any

import numba


def jit(function: Callable[..., Any]) -> Any:
    """Compiled once a host, where there is a place to keep it: not if the code came in a zip (a cluster)."""
    try:
        return numba.njit(cache=os.path.isfile(__file__))(function)
    except RuntimeError:  # a read-only installation of a user without a home
        return numba.njit(function)
