"""Compiles the kernels, where numba is installed."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

try:
    import numba
except ImportError:  # a host that serves and evaluates, without the extra `graph`
    numba = None


def jit(function: Callable[..., Any]) -> Any:
    """Return the compiled function; without numba the function itself, which is slower.

    It is compiled once on a host that has a place to keep it: not where the code came in a zip, as on a cluster.
    """
    if numba is None:
        return np.errstate(over="ignore")(function)  # hashes overflow on purpose
    try:
        return numba.njit(cache=os.path.isfile(__file__))(function)
    except RuntimeError:  # a read-only installation of a user without a home
        return numba.njit(function)
