"""The callback by which long-running steps of the package `model` report how far they are."""

from collections.abc import Callable

ProgressCallback = Callable[[str, float], None]
"""Receives a message for people and the finished share of the work, in [0, 1]."""
