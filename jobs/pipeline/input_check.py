"""Checks the tables of a command before Spark starts, and reports everything that is wrong with them at once."""

import logging
from collections.abc import Mapping, Sequence

from jobs.config import Config
from jobs.errors import TableError

log = logging.getLogger(__name__)


def check_inputs(tables: Mapping[str, Sequence[str]], config: Config) -> int:
    """Check tables without Spark; log what a build would leave out.

    Args:
        tables: `events`, `items`, `ads` → files and folders.
        config: the full configuration.

    Returns:
        The number of warnings.

    Raises:
        TableError: a build would stop; the message holds a line for everything that is wrong.
    """
    from graph_build.inspection.tables import check_tables

    faults = check_tables(tables, config.graph.input)  # type: ignore[arg-type]
    stopping = [fault for fault in faults if fault.stops]
    if stopping:
        raise TableError(_message([str(fault) for fault in (*stopping, *(f for f in faults if not f.stops))]))
    for fault in faults:
        log.warning("%s", fault)
    return len(faults)


def _message(lines: Sequence[str]) -> str:
    if len(lines) == 1:
        return lines[0]
    return "\n".join(
        [f"the input has {len(lines)} faults; `lightsage inspect` writes the lines:", *(f"  {line}" for line in lines)]
    )
