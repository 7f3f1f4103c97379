"""The fixtures of the commands, whose results those of the functions must equal."""

from tests.jobs.cli.conftest import popular_items

__all__ = ["popular_items"]
