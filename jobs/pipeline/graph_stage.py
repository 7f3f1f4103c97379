"""The first stage of a build: the item graph, which is built in Spark here, or copied if a cluster has built it."""

import contextlib
import datetime as dt
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs.config import Config
from jobs.errors import InputNotFoundError, NightError
from jobs.pipeline.input_check import check_inputs
from jobs.pipeline.inputs import RunInputs
from jobs.progress import ProgressCallback
from jobs.workspace.store_errors import errors_of, file_system

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

    A Spark session that this function starts is stopped at the end, so that its memory is free for training.

    Args:
        inputs: the tables.
        folder: the folder to write the graph to.
        config: the full configuration.
        date: the last day whose events count; None = the day of the last event.
        report: called with the progress.
        holdout_day: the day that is held out of `fit/`; None = the configured share of the last events is held out.

    Raises:
        GraphInputError: the tables cannot be used.
    """
    from graph_build.build import GraphInputs, build_graphs
    from graph_build.spark.session import session_for_one_build

    report("checking the input", 0.0)
    check_inputs(inputs.tables(), config)
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
    files, root = _graph_folder(uri)
    with errors_of(files, f"--graph {uri}"):
        # The paths are passed as lists, because a single path such as `shop [1]` would be read as a pattern.
        sources = files.find(root)
        targets = [folder / path.removeprefix(f"{root}/") for path in sources]
        for target in targets:
            target.parent.mkdir(parents=True, exist_ok=True)
        files.get(sources, [str(target) for target in targets])


def check_night_graph(uri: str, date: dt.date, zone: str) -> None:
    """Check, before a graph is copied, that it ends with the date of a night and holds that day out.

    Args:
        uri: folder of the graph.
        date: the date of the night.
        zone: the time zone of the days.

    Raises:
        InputNotFoundError: the folder holds no finished graph.
        NightError: the graph ends with another day, or holds out more or less than the date.
    """
    import pyarrow.dataset as ds

    from graph_build.day_zone import midnight
    from graph_build.summary import GraphSummary

    files, root = _graph_folder(uri)
    with errors_of(files, f"--graph {uri}"):
        summary = files.cat_file(f"{root}/summary.json").decode()
        sessions = ds.dataset(f"{root}/sessions", filesystem=files, format="parquet")
        starts = sessions.to_table(columns=["start", "held"])
    as_of = GraphSummary.from_json(summary).as_of
    begin, end = midnight(date, zone), midnight(date + dt.timedelta(days=1), zone)
    if not begin <= as_of < end:
        raise NightError(
            f"--graph {uri} is as of {as_of:%Y-%m-%d %H:%M} UTC, and not of {date}: build it with --date {date}"
        )
    is_of_day = pc.greater_equal(starts["start"], pa.scalar(begin).cast(starts["start"].type))
    if not pc.all(pc.equal(is_of_day, starts["held"])).as_py():
        raise NightError(
            f"--graph {uri} must hold out exactly the sessions of {date}, on which the night is measured; it does not: "
            f"build it with --date {date} --holdout-day {date}"
        )


def _graph_folder(uri: str) -> tuple[Any, str]:
    """The file system and the path of a finished graph."""
    files, root = file_system(uri, "--graph")
    root = root.rstrip("/")
    is_finished = False
    with errors_of(files, f"--graph {uri}"), contextlib.suppress(FileNotFoundError, NotADirectoryError):
        is_finished = files.info(f"{root}/summary.json")["type"] == "file"  # `isfile` would hide other errors
    if not is_finished:
        raise InputNotFoundError(f"{uri} holds no summary.json: it is not an item graph, or its build did not finish")
    return files, root


def read_summary(graph: Path) -> "GraphSummary":
    """Return the `summary.json` of a graph folder."""
    from graph_build.summary import GraphSummary

    return GraphSummary.from_json((graph / "summary.json").read_text(encoding="utf-8"))
