"""Checks the tables of a command before Spark starts, and reports all faults at once."""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from graph_build.config import InputConfig
from jobs.config import Config
from jobs.errors import TableError

if TYPE_CHECKING:
    from graph_build.inspection.findings import Fault

log = logging.getLogger(__name__)


def check_inputs(tables: Mapping[str, Sequence[str]], config: Config, *, warn: bool = True) -> int:
    """Check tables without Spark, and log a warning for each fault that does not stop a build.

    Args:
        tables: `events`, `items`, `ads` → files and folders.
        config: the full configuration.
        warn: whether to log the warnings; false if the same tables are checked again later.

    Returns:
        The number of warnings.

    Raises:
        TableError: a build would stop; the message has a line for each fault.
    """
    from graph_build.inspection.tables import check_tables

    faults = check_tables(tables, config.graph.input)  # type: ignore[arg-type]
    if any(fault.stops for fault in faults):
        raise TableError(_message(faults))
    for fault in faults if warn else ():
        log.warning("%s", fault)
    return len(faults)


def all_faults(tables: Mapping[str, Sequence[str]], config: InputConfig) -> str | None:
    """Return all faults of tables, because a reader stops at the first one.

    Args:
        tables: `events`, `items`, `ads` → files and folders.
        config: the `[input]` section.

    Returns:
        A message with a line for each fault; None unless several faults would stop a build.
    """
    from graph_build.inspection.tables import check_tables

    faults = check_tables(tables, config)  # type: ignore[arg-type]
    return _message(faults) if sum(fault.stops for fault in faults) > 1 else None


def _message(faults: Sequence["Fault"]) -> str:
    lines = [str(fault) for fault in sorted(faults, key=lambda fault: not fault.stops)]
    if len(lines) == 1:
        return lines[0]
    title = f"the input has {len(lines)} faults; `lightsage inspect` writes the lines:"
    return "\n".join([title, *(f"  {line}" for line in lines)])
