"""Fixtures from the tests of the commands: functions must give the same results as commands."""

from tests.jobs.cli.conftest import popular_items

__all__ = ["popular_items"]
