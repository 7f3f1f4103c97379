"""The graph build as a job of its own: for `spark-submit` on a cluster (docs/cluster.md), or `python -m graph_build`.

    spark-submit --py-files rooms.zip graph_build/__main__.py --events URI… [--items URI] [--ads URI] --out URI

Writes the graph that `lightsage run` builds in its first stage; `lightsage run --graph OUT` continues from it.
"""

from __future__ import annotations

import argparse
import datetime as dt
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graph_build.config import GraphConfig


def main(arguments: list[str] | None = None) -> int:
    """Build the graph; return the exit code: 0 done, 1 Spark failed, 2 bad configuration, input or host."""
    if sys.version_info < (3, 11):  # noqa: UP036 - the job is submitted as files, to any Python
        sys.stderr.write(f"graph_build needs Python 3.11 or newer, and this is {sys.version.split()[0]}\n")
        return 2
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("py4j").setLevel(logging.WARNING)
    log = logging.getLogger("graph_build")

    from graph_build.errors import GraphError, SparkJobError
    from graph_build.spark.requirements import check_spark
    from graph_build.spark.storage import is_store_error

    try:
        config = _load_config(options.config)
    except (OSError, ValueError) as error:  # the errors of TOML and of pydantic are ValueErrors
        log.error("--config %s: %s", options.config, error)
        return 2
    try:
        check_spark()  # first, because older releases of Spark lack names that the imports below need
        from graph_build.build import GraphInputs, build_graphs
        from graph_build.spark.session import session_for_one_build

        inputs = GraphInputs(options.events, options.items, options.ads)
        with session_for_one_build() as spark:
            summary = build_graphs(
                spark,
                inputs,
                options.out,
                config,
                date=options.date,
                holdout_share=options.holdout_share,
                holdout_day=options.holdout_day,
            )
    except GraphError as error:
        log.error("%s", error)
        return 1 if isinstance(error, SparkJobError) else 2
    except ModuleNotFoundError as error:
        log.error(
            "the package %s is not installed on this host; docs/cluster.md lists what the driver needs", error.name
        )
        return 2
    except Exception as error:
        if not is_store_error(error):
            raise
        text = " ".join(str(error).split())
        log.error("an object store cannot be used: %s. Check its endpoint, the credentials and what they allow", text)
        return 2
    sys.stdout.write(summary.to_json() + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="graph_build", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--events", nargs="+", action="extend", required=True, help="files or folders, read as one log")
    parser.add_argument("--items", help="the catalogue")
    parser.add_argument("--ads", help="the ads")
    parser.add_argument("--out", required=True, help="where the graph goes")
    parser.add_argument("--config", type=Path, help="the TOML file of `lightsage run`; [graph] and [input] are read")
    parser.add_argument("--date", type=_date, help="the last day that is used, YYYY-MM-DD")
    parser.add_argument(
        "--holdout-day",
        type=_date,
        help="hold out this day and later ones, YYYY-MM-DD, instead of a share; `lightsage nightly --graph` needs it",
    )
    parser.add_argument(
        "--holdout-share", type=float, default=0.1, help="share of the item events held out of fit/ (default 0.1)"
    )
    return parser


def _date(text: str) -> dt.date:
    from graph_build.day_zone import parse_date

    try:
        return parse_date(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _load_config(path: Path | None) -> GraphConfig:
    import tomllib

    from graph_build.config import GraphConfig

    content = tomllib.loads(path.read_text(encoding="utf-8")) if path else {}
    sections = content.get("graph", {}) | ({"input": content["input"]} if "input" in content else {})
    return GraphConfig.model_validate(sections)


if __name__ == "__main__":
    sys.exit(main())
