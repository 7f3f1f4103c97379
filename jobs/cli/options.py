"""What `lightsage` can be told: its commands and their flags."""

import argparse
import datetime as dt
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

WRONG_INPUT = 2


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(WRONG_INPUT, f"error: {message}\n")


def parser() -> argparse.ArgumentParser:
    """All commands with their flags."""
    top = _Parser(prog="lightsage", description="From raw click logs to filtered ads over HTTP.")
    top.add_argument("--verbose", action="store_true", help="log details, and show the traceback of an error")
    top.add_argument("--log", choices=("plain", "json"), default="plain", help="log lines where there is no terminal")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="build and publish a version: graph, train, embed, index")
    run.add_argument("--events", nargs="+", action="extend", metavar="PATH", help="files or folders")
    run.add_argument("--stored-days", action="store_true", help="instead of --events: the days that were ingested")
    run.add_argument("--graph", metavar="PATH", help="instead of the tables: a graph that was built on a cluster")
    run.add_argument("--items", metavar="PATH", help="the catalogue")
    run.add_argument("--ads", metavar="PATH", help="without it every item counts as advertised")
    _workspace(run)
    run.add_argument("--date", type=_date, metavar="YYYY-MM-DD", help="last day used; default: the last event's")

    ingest = commands.add_parser("ingest", help="keep whole days of events for nightly builds (run --stored-days)")
    ingest.add_argument("--events", nargs="+", action="extend", required=True, metavar="PATH", help="files or folders")
    ingest.add_argument(
        "--day",
        type=_date,
        action="append",
        metavar="YYYY-MM-DD",
        help="a day that they hold wholly; default: all found",
    )
    _workspace(ingest)

    forget = commands.add_parser("forget", help="delete users from the days that are kept")
    forget.add_argument("--user", nargs="+", action="extend", required=True, metavar="ID", help="as in user_id")
    _workspace(forget)

    night = commands.add_parser(
        "nightly", help="one night: build, compare with what is published, publish if it passes"
    )
    night.add_argument("--date", type=_date, required=True, metavar="YYYY-MM-DD", help="the day that has ended")
    night.add_argument(
        "--events",
        nargs="+",
        action="extend",
        metavar="PATH",
        help="logs that hold the date, {date} in a path stands for it; default: it is ingested already",
    )
    night.add_argument("--items", metavar="PATH", help="the catalogue")
    night.add_argument("--ads", metavar="PATH", help="without it every item counts as advertised")
    _workspace(night)
    night.add_argument("--force", action="store_true", help="publish against the gates; it is recorded")

    versions = commands.add_parser("versions", help="list what was published")
    _workspace(versions)

    rollback = commands.add_parser("rollback", help="publish an earlier version again")
    _workspace(rollback)
    rollback.add_argument("--to", metavar="VERSION", help="default: the one that the published one came from")

    diff = commands.add_parser("diff", help="what changed between two versions")
    diff.add_argument("one", metavar="A")
    diff.add_argument("other", metavar="B")
    _workspace(diff)

    graph = commands.add_parser("graph", help="look into the item graph").add_subparsers(required=True, metavar="show")
    show = graph.add_parser("show", help="draw an item and its neighbours")
    show.add_argument("item", metavar="ITEM")
    _workspace(show)
    show.add_argument("--neighbours", type=int, default=30, metavar="N", help="the strongest N (default 30)")
    show.add_argument("--output", type=Path, metavar="PAGE.html", help="default: ego-ITEM.html")
    show.add_argument("--gexf", type=Path, metavar="FILE.gexf", help="also for Gephi and its like")

    retrieve = commands.add_parser("retrieve", help="answer a table of queries")
    _workspace(retrieve)
    retrieve.add_argument(
        "--queries", required=True, metavar="Q.parquet", help="query_id, item_ids, [at], [country], [query]"
    )
    retrieve.add_argument("--k", type=int, required=True, help="results a query")
    retrieve.add_argument("--output", required=True, type=Path, metavar="OUT.parquet")
    retrieve.add_argument("--at", metavar="TIME", help="when ads must be active; default: the as-of time")
    retrieve.add_argument("--all-items", action="store_true", help="rank the whole catalogue, advertised or not")
    retrieve.add_argument("--include-current", action="store_true", help="the query's last item may be a result")

    serve = commands.add_parser("serve", help="answer over HTTP")
    _workspace(serve)
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=_port, default=8000, help="0 = any free one")
    serve.add_argument("--at", metavar="TIME|as-of", help="serve as of that time instead of now")
    serve.add_argument("--changes", type=Path, metavar="FILE", help="live changes of ads; default: in the workspace")

    evaluate = commands.add_parser("evaluate", help="measure a version on later events")
    _workspace(evaluate)
    evaluate.add_argument("--events", nargs="+", action="extend", required=True, metavar="TEST.parquet")
    evaluate.add_argument("--protocol", choices=("item", "session", "basket"), default="item")
    evaluate.add_argument("--ads-only", action="store_true", help="candidates and targets are ads in flight")
    evaluate.add_argument("--include-current", action="store_true", help="the current item may be the target")
    evaluate.add_argument("--allow-overlap", action="store_true", help="accept events before the as-of time")
    evaluate.add_argument("--baselines", action="store_true", help="measure the counting peers too")
    evaluate.add_argument("--output", type=Path, metavar="REPORT.json")

    select = commands.add_parser("select-features", help="which feature groups a model needs")
    _workspace(select)
    select.add_argument("--keep", type=int, required=True, metavar="K", help="how many groups are to stay")
    select.add_argument("--with-ids", action="store_true", help="also compare models with ids, as they are served")
    select.add_argument("--output", type=Path, metavar="REPORT.json")

    codes = commands.add_parser("semantic-ids", help="learn a code for every item, whose prefixes are clusters")
    _workspace(codes)
    codes.add_argument("--levels", type=_between(1, 16), default=8, metavar="L", help="numbers in a code (default 8)")
    codes.add_argument(
        "--size", type=_between(2, 256), default=256, metavar="K", help="values of each number (default 256)"
    )
    codes.add_argument("--output", required=True, type=Path, metavar="CODES.parquet")

    settings = commands.add_parser("config", help="print all settings as TOML, with what each of them means")
    settings.add_argument("--config", type=Path, metavar="FILE", help="as this file sets them; default: the defaults")

    demo = commands.add_parser("demo", help="the whole way on a built-in marketplace")
    demo.add_argument("--directory", type=Path, default=Path("demo"), help="where its data and workspace go")
    demo.add_argument("--small", action="store_true", help="a tiny marketplace, in under a minute")
    return top


def _workspace(command: argparse.ArgumentParser) -> None:
    command.add_argument("--workspace", required=True, metavar="DIR", help="a folder or URI of versions")
    command.add_argument("--config", type=Path, metavar="FILE", help="TOML; every key has a default")


def _date(value: str) -> dt.date:
    try:
        return dt.date.fromisoformat(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{value!r} is no date, expected YYYY-MM-DD") from None


def _between(least: int, most: int) -> Callable[[str], int]:
    def number(value: str) -> int:
        if value.isdecimal() and least <= int(value) <= most:
            return int(value)
        raise argparse.ArgumentTypeError(f"{value!r} is no number from {least} to {most}")

    return number


def _port(value: str) -> int:
    if value.isdecimal() and int(value) <= 65_535:
        return int(value)
    raise argparse.ArgumentTypeError(f"{value!r} is no port, expected 0 to 65535 (0 = any free one)")
