"""The commands that answer queries: `retrieve` for a table of queries, and `serve` over HTTP."""

import argparse
from pathlib import Path

from jobs.cli.command import Command, ExitCode, add_workspace, open_version, port, write_line
from jobs.progress import StageProgress


def _retrieve_arguments(parser: argparse.ArgumentParser) -> None:
    add_workspace(parser)
    parser.add_argument(
        "--queries",
        required=True,
        metavar="Q.parquet",
        help="table with the columns query_id, item_ids and optionally at, country, query",
    )
    parser.add_argument("--k", type=int, required=True, help="number of results per query")
    parser.add_argument("--output", required=True, type=Path, metavar="OUT.parquet", help="the table to write")
    parser.add_argument(
        "--at",
        metavar="TIME",
        help="time at which ads must be active, for queries that name no time; default: the version's as-of time",
    )
    parser.add_argument("--all-items", action="store_true", help="rank the whole catalogue, not only advertised items")
    parser.add_argument("--include-current", action="store_true", help="allow a query's last item among its results")


def _retrieve(options: argparse.Namespace) -> int:
    from jobs.cli.retrieve import RetrieveOptions, retrieve
    from jobs.pipeline.evaluate import as_time

    version, config = open_version(options, "index")
    at = as_time(options.at) if options.at else None
    counts = retrieve(
        version.path / "index",
        options.queries,
        options.output,
        RetrieveOptions(options.k, at, options.all_items, options.include_current, config.graph.input),
        config.retrieval,
        StageProgress(),
    )
    write_line(f"{counts.queries:,} queries, {counts.rows:,} rows, {counts.fallbacks:,} fallbacks: {options.output}")
    return ExitCode.OK


def _serve_arguments(parser: argparse.ArgumentParser) -> None:
    add_workspace(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=port, default=8000, help="port to listen on (default 8000); 0 = any free port")
    parser.add_argument(
        "--at",
        metavar="TIME|as-of",
        help="answer as of this time, or of the version's as-of time, instead of the current time",
    )
    parser.add_argument(
        "--changes",
        type=Path,
        metavar="FILE",
        help="file of live changes; default: changes.sqlite in DIR if that is local",
    )


def _serve(options: argparse.Namespace) -> int:
    from jobs.cli.serve import serve

    return serve(
        options.workspace,
        options.config,
        host=options.host,
        port=options.port,
        at=options.at,
        changes=options.changes,
    )


COMMANDS = (
    Command("retrieve", "answer a table of queries", _retrieve_arguments, _retrieve),
    Command("serve", "answer queries over HTTP", _serve_arguments, _serve),
)
