"""Compiles the kernels, where numba is installed."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

try:
    import numba
except ImportError:  # a host that only serves and evaluates, without the extra `graph`
    numba = None


def jit(function: Callable[..., Any]) -> Any:
    """Return the compiled function; if numba is not installed, return the function itself, which is slower.

    The compiled code is kept on disk for the next process, unless the package came in a zip, as on a cluster.
    """
    if numba is None:
        return np.errstate(over="ignore")(function)  # hashes overflow on purpose
    try:
        return numba.njit(cache=os.path.isfile(__file__))(function)
    except RuntimeError:  # no folder to keep the code in: a read-only installation and a user without a home
        return numba.njit(function)
