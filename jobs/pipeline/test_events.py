"""Test events for `lightsage evaluate`, read by the rules of the graph build, without Spark."""

import logging
from collections.abc import Sequence

import pyarrow as pa

from graph_build.config import InputConfig
from jobs.errors import TableError

log = logging.getLogger(__name__)


def read_events(paths: Sequence[str], config: InputConfig) -> pa.Table:
    """Return test events under the contract's names and types, and warn of rows that cannot be used.

    Args:
        paths: local files or folders of parquet or CSV.
        config: the `[input]` section of the graph build.

    Raises:
        TableError: a file does not fit the contract, or more than `max_bad_share` of all rows are bad.
    """
    from graph_build.errors import GraphInputError
    from graph_build.ingest import arrow_reader
    from graph_build.ingest.rules import listed

    try:
        events = arrow_reader.read_events(list(paths), config)
    except GraphInputError as error:
        raise TableError(str(error)) from None
    if events.refused:
        log.warning(
            "%s of %s test events cannot be used (%s), e.g. %s; they are left out",
            f"{sum(events.refused.values()):,}",
            f"{events.read:,}",
            listed(events.refused),
            events.example,
        )
    return events.rows
