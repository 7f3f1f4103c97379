"""The first stage of a build: the item graph, built in Spark or copied from where a cluster built it."""

import datetime as dt
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.config import Config
from jobs.errors import InputNotFoundError
from jobs.pipeline.inputs import RunInputs
from jobs.progress import ProgressCallback

if TYPE_CHECKING:
    from graph_build.summary import GraphSummary

log = logging.getLogger(__name__)


def build_graph(
    inputs: RunInputs,
    folder: Path,
    config: Config,
    date: dt.date | None,
    report: ProgressCallback,
    *,
    holdout_day: dt.date | None = None,
) -> "GraphSummary":
    """Build the item graph in Spark.

    If this function starts the Spark session, it also ends it, which frees the session's memory for training.

    Args:
        inputs: the tables.
        folder: the folder to write the graph to.
        config: the full configuration.
        date: the last day whose events count; None = the day of the last event.
        report: called with the progress.
        holdout_day: the day held out of `fit/`; None = the configured share of the last events.

    Raises:
        GraphInputError: the tables cannot be used.
    """
    from graph_build.build import GraphInputs, build_graphs
    from graph_build.spark.session import session_for_one_build

    report("starting Spark", 0.0)
    with session_for_one_build(master=config.spark.master, driver_memory=config.spark.driver_memory) as spark:
        summary = build_graphs(
            spark,
            GraphInputs(list(inputs.events), inputs.items, inputs.ads, inputs.days),
            str(folder),
            config.graph,
            date=date,
            holdout_share=config.validation.share,
            holdout_day=holdout_day,
            progress=report,
        )
    edges = ", ".join(f"{count:,} {kind}" for kind, count in summary.edges.items())
    log.info("%s items, edges: %s", f"{summary.nodes:,}", edges)
    for table, reasons in summary.quarantined.items():
        if reasons:
            counts = ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items()))
            where = (
                "the stored days keep them"
                if inputs.days and table == "events"
                else "graph/quarantine has each of them"
            )
            log.warning("rows of %s in quarantine: %s (%s)", table, counts, where)
    return summary


def copy_graph(uri: str, folder: Path) -> None:
    """Copy a graph that `python -m graph_build` or `spark-submit` wrote.

    Args:
        uri: folder of the graph.
        folder: the folder to copy to.

    Raises:
        InputNotFoundError: the folder has no `summary.json`, which the graph build writes last.
    """
    from fsspec.core import url_to_fs

    files, root = url_to_fs(uri)
    if not files.isfile(f"{root}/summary.json"):
        raise InputNotFoundError(f"{uri} holds no summary.json: it is not an item graph, or its build did not finish")
    files.get(f"{root.rstrip('/')}/", f"{folder}/", recursive=True)


def read_summary(graph: Path) -> "GraphSummary":
    """Return the `summary.json` of a graph folder."""
    from graph_build.summary import GraphSummary

    return GraphSummary.from_json((graph / "summary.json").read_text(encoding="utf-8"))
