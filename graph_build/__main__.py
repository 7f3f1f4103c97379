"""The graph build as a job of its own: for `spark-submit` on a cluster (docs/cluster.md), or `python -m graph_build`.

    spark-submit --py-files rooms.zip graph_build/__main__.py --events URI… [--items URI] [--ads URI] --out URI

Writes what `lightsage run` builds first; `lightsage run --graph OUT` goes on from there.
"""

import argparse
import datetime as dt
import logging
import sys
import tomllib
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Build; returns the exit code: 0 done, 1 Spark failed, 2 the input cannot be used."""
    options = argparse.ArgumentParser(prog="graph_build", description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--events", nargs="+", action="extend", required=True)
    options.add_argument("--items")
    options.add_argument("--ads")
    options.add_argument("--out", required=True)
    options.add_argument("--config", type=Path, help="the TOML file of `lightsage run`; [graph] and [input] are read")
    options.add_argument("--date", type=dt.date.fromisoformat)
    options.add_argument("--holdout-share", type=float, default=0.1)
    chosen = options.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("py4j").setLevel(logging.WARNING)

    from graph_build.build import GraphInputs, build_graphs
    from graph_build.config import GraphConfig
    from graph_build.errors import GraphError, SparkJobError
    from graph_build.spark.session import session_for_one_build

    try:
        content = tomllib.loads(chosen.config.read_text(encoding="utf-8")) if chosen.config else {}
        sections = content.get("graph", {}) | ({"input": content["input"]} if "input" in content else {})
        config = GraphConfig.model_validate(sections)
    except (OSError, ValueError) as error:  # TOML's and pydantic's errors are ValueErrors
        logging.getLogger("graph_build").error("--config %s: %s", chosen.config, error)
        return 2
    inputs = GraphInputs(chosen.events, chosen.items, chosen.ads)
    try:
        with session_for_one_build() as spark:
            summary = build_graphs(
                spark, inputs, chosen.out, config, date=chosen.date, holdout_share=chosen.holdout_share
            )
    except GraphError as error:
        logging.getLogger("graph_build").error("%s", error)
        return 1 if isinstance(error, SparkJobError) else 2
    sys.stdout.write(summary.to_json() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
