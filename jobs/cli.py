"""The command line: `lightsage COMMAND`. Each command loads only what it needs.

Exit codes: 0 done, 1 something failed that is not the user's doing, 2 the input or the command line is wrong,
3 the workspace is busy, 4 a night did not pass its gates, 130 interrupted.
"""

import argparse
import datetime as dt
import errno
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from jobs.logs import is_interrupt, log_to_stderr

log = logging.getLogger("jobs")

OK, FAILED, WRONG_INPUT, BUSY, REFUSED, INTERRUPTED = 0, 1, 2, 3, 4, 130

# The flags that take a path, and what is wrong with a path that the user gave and can give another of.
_PATHS = ("workspace", "directory", "config", "events", "items", "ads", "queries", "output", "changes")
_UNUSABLE = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.ENOSPC,
    errno.EDQUOT,
}


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
    run.set_defaults(call=_run)

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
    ingest.set_defaults(call=_ingest)

    forget = commands.add_parser("forget", help="delete users from the days that are kept")
    forget.add_argument("--user", nargs="+", action="extend", required=True, metavar="ID", help="as in user_id")
    _workspace(forget)
    forget.set_defaults(call=_forget)

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
    night.set_defaults(call=_nightly)

    versions = commands.add_parser("versions", help="list what was published")
    _workspace(versions)
    versions.set_defaults(call=_versions)

    rollback = commands.add_parser("rollback", help="publish an earlier version again")
    _workspace(rollback)
    rollback.add_argument("--to", metavar="VERSION", help="default: the one that the published one came from")
    rollback.set_defaults(call=_rollback)

    diff = commands.add_parser("diff", help="what changed between two versions")
    diff.add_argument("one", metavar="A")
    diff.add_argument("other", metavar="B")
    _workspace(diff)
    diff.set_defaults(call=_diff)

    graph = commands.add_parser("graph", help="look into the item graph").add_subparsers(required=True, metavar="show")
    show = graph.add_parser("show", help="draw an item and its neighbours")
    show.add_argument("item", metavar="ITEM")
    _workspace(show)
    show.add_argument("--neighbours", type=int, default=30, metavar="N", help="the strongest N (default 30)")
    show.add_argument("--output", type=Path, metavar="PAGE.html", help="default: ego-ITEM.html")
    show.add_argument("--gexf", type=Path, metavar="FILE.gexf", help="also for Gephi and its like")
    show.set_defaults(call=_graph_show)

    retrieve = commands.add_parser("retrieve", help="answer a table of queries")
    _workspace(retrieve)
    retrieve.add_argument("--queries", required=True, metavar="Q.parquet", help="query_id, item_ids, [at], [country]")
    retrieve.add_argument("--k", type=int, required=True, help="results a query")
    retrieve.add_argument("--output", required=True, type=Path, metavar="OUT.parquet")
    retrieve.add_argument("--at", metavar="TIME", help="when ads must be active; default: the as-of time")
    retrieve.add_argument("--all-items", action="store_true", help="rank the whole catalogue, advertised or not")
    retrieve.add_argument("--include-current", action="store_true", help="the query's last item may be a result")
    retrieve.set_defaults(call=_retrieve)

    serve = commands.add_parser("serve", help="answer over HTTP")
    _workspace(serve)
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=_port, default=8000, help="0 = any free one")
    serve.add_argument("--at", metavar="TIME|as-of", help="serve as of that time instead of now")
    serve.add_argument("--changes", type=Path, metavar="FILE", help="live changes of ads; default: in the workspace")
    serve.set_defaults(call=_serve)

    evaluate = commands.add_parser("evaluate", help="measure a version on later events")
    _workspace(evaluate)
    evaluate.add_argument("--events", nargs="+", action="extend", required=True, metavar="TEST.parquet")
    evaluate.add_argument("--protocol", choices=("item", "session", "basket"), default="item")
    evaluate.add_argument("--ads-only", action="store_true", help="candidates and targets are ads in flight")
    evaluate.add_argument("--include-current", action="store_true", help="the current item may be the target")
    evaluate.add_argument("--allow-overlap", action="store_true", help="accept events before the as-of time")
    evaluate.add_argument("--baselines", action="store_true", help="measure the counting peers too")
    evaluate.add_argument("--output", type=Path, metavar="REPORT.json")
    evaluate.set_defaults(call=_evaluate)

    demo = commands.add_parser("demo", help="the whole way on a built-in marketplace")
    demo.add_argument("--directory", type=Path, default=Path("demo"), help="where its data and workspace go")
    demo.add_argument("--small", action="store_true", help="a tiny marketplace, in under a minute")
    demo.set_defaults(call=_demo)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    # Read when torch and faiss are first imported: threads that wait by spinning starve each other on a busy host.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    options = parser().parse_args(arguments)
    log_to_stderr(verbose=options.verbose, lines=options.log)
    try:
        code: int = options.call(options)
    except (KeyboardInterrupt, Exception) as error:
        # Only these write a version, and so could have left one half-written.
        kept = "; what was served before still is" if options.command in ("run", "nightly", "demo") else ""
        if is_interrupt(error):
            log.error("interrupted%s", kept)
            return INTERRUPTED
        known, said = _expected(error, options)
        if known is None or options.verbose:
            log.error("unexpected error%s", kept, exc_info=error)
        if known is not None:
            log.error("%s", said)
        return FAILED if known is None else known
    return code


def _expected(error: BaseException, options: argparse.Namespace) -> tuple[int | None, str]:
    """(exit code, message) of an error that is the user's to mend or was raised on purpose, (None, "") of another."""
    if isinstance(error, OSError) and (unusable := _unusable_path(error, options)):
        return WRONG_INPUT, unusable
    return _exit_code(error), str(error)


def _unusable_path(error: OSError, options: argparse.Namespace) -> str | None:
    """What to say when the error is about a path that the user gave."""
    if error.filename is None or error.errno not in _UNUSABLE:
        return None
    path = Path(os.fsdecode(error.filename)).absolute()
    for flag in _PATHS:
        value = getattr(options, flag, None)
        for given in value if isinstance(value, list) else [value] if value else []:
            mine = Path(given).absolute()
            # The command met something inside what was given, or could not make a folder above it.
            if path.is_relative_to(mine) or mine.is_relative_to(path):
                where = "" if path == mine else f" ({path})"
                return f"--{flag} {given} cannot be used: {error.strerror}{where}"
    return None


def _exit_code(error: BaseException) -> int | None:
    """The code of an error that was raised on purpose, None for any other."""
    from graph_build.errors import SparkJobError
    from jobs.errors import GateError, JobError, StoreError, WorkspaceBusyError, WorkspaceFullError

    if isinstance(error, GateError):
        return REFUSED
    if isinstance(error, WorkspaceBusyError):
        return BUSY
    if isinstance(error, SparkJobError | WorkspaceFullError):
        return FAILED
    # The rooms' own errors: their modules are light, and named by the module so that none is imported for nothing.
    rooms = {"graph_build.errors", "model.errors", "retrieval.errors"}
    if isinstance(error, JobError | StoreError) or type(error).__module__ in rooms:
        return WRONG_INPUT
    return None


def _run(options: argparse.Namespace) -> int:
    from jobs.config import load_config
    from jobs.days import days_of
    from jobs.errors import InputNotFoundError
    from jobs.progress import StageProgress
    from jobs.run import RunInputs, run
    from jobs.store import Workspace

    tables = (options.events, options.items, options.ads, options.date, options.stored_days or None)
    if options.graph is not None and any(given is not None for given in tables):
        raise InputNotFoundError("--graph stands for events, --items, --ads and --date: give it alone")
    if options.graph is None and (options.events is not None) == options.stored_days:
        raise InputNotFoundError("give either --events, or --stored-days, or a --graph that was built from events")
    days = days_of(Workspace(options.workspace), load_config(options.config)) if options.stored_days else None
    inputs = RunInputs(tuple(options.events or ()), options.items, options.ads, options.graph, days)
    config = load_config(options.config)
    version = run(inputs, Workspace(options.workspace), config, date=options.date, progress=StageProgress())
    _say(f"published {version.name} in {options.workspace}")
    _say(f"graph report: {version.path / 'graph' / 'report.html'}")
    return OK


def _ingest(options: argparse.Namespace) -> int:
    from jobs.config import load_config
    from jobs.days import ingest
    from jobs.progress import StageProgress
    from jobs.store import Workspace

    workspace, config = Workspace(options.workspace), load_config(options.config)
    days = ingest(options.events, workspace, config, days=options.day, progress=StageProgress())
    _say(f"stored {', '.join(map(str, days))} in {options.workspace}")
    return OK


def _forget(options: argparse.Namespace) -> int:
    from jobs.config import load_config
    from jobs.days import forget
    from jobs.progress import StageProgress
    from jobs.store import Workspace

    gone = forget(options.user, Workspace(options.workspace), load_config(options.config), progress=StageProgress())
    _say(f"{gone:,} sessions deleted from the stored days of {options.workspace}")
    return OK


def _nightly(options: argparse.Namespace) -> int:
    from jobs.config import load_config
    from jobs.nightly import NightInputs, nightly
    from jobs.progress import StageProgress
    from jobs.store import Workspace

    workspace, config = Workspace(options.workspace), load_config(options.config)
    inputs = NightInputs(options.date, tuple(options.events or ()), options.items, options.ads)
    night = nightly(inputs, workspace, config, force=options.force, progress=StageProgress())
    _say(f"{night.outcome} {night.version} in {options.workspace}")
    _say(f"morning report: {options.workspace}/{night.folder}/report.html")
    return OK


def _versions(options: argparse.Namespace) -> int:
    from jobs.show import print_versions
    from jobs.store import Workspace
    from jobs.versions import listed

    print_versions(listed(Workspace(options.workspace)), _wide())
    return OK


def _rollback(options: argparse.Namespace) -> int:
    from jobs.store import Workspace
    from jobs.versions import rollback

    before, now = rollback(Workspace(options.workspace), options.to)
    _say(f"published {now} instead of {before}; running servers take it over by themselves")
    return OK


def _diff(options: argparse.Namespace) -> int:
    from jobs.config import load_config
    from jobs.show import print_diff
    from jobs.store import Workspace
    from jobs.versions import diff

    workspace = Workspace(options.workspace)
    print_diff(diff(workspace, options.one, options.other, load_config(options.config)), _wide())
    return OK


def _wide() -> Console:
    """Names are not cut where a script may read them."""
    return Console() if sys.stdout.isatty() else Console(width=240)


def _graph_show(options: argparse.Namespace) -> int:
    from graph_build.ego import ego_network, render, write_gexf
    from jobs.store import Workspace

    version = Workspace(options.workspace).open(parts=("graph/full", "graph/tables"))
    network = ego_network(version.path / "graph", options.item, options.neighbours)
    page = options.output or Path(f"ego-{''.join(c if c.isalnum() or c in '-_.' else '_' for c in options.item)}.html")
    page.write_text(render(network), encoding="utf-8")
    _say(f"{len(network) - 1} neighbours, {network.number_of_edges()} edges: {page}")
    if options.gexf:
        write_gexf(network, options.gexf)
        _say(f"GEXF: {options.gexf}")
    return OK


def _retrieve(options: argparse.Namespace) -> int:
    from jobs.evaluate import as_time
    from jobs.progress import StageProgress
    from jobs.retrieve import retrieve

    version, config = _version(options, "index")
    at = as_time(options.at) if options.at else None
    written = retrieve(
        version.path / "index",
        options.queries,
        options.output,
        k=options.k,
        at=at,
        all_items=options.all_items,
        include_current=options.include_current,
        config=config.retrieval,
        progress=StageProgress(),
    )
    _say(f"{written.queries:,} queries, {written.rows:,} rows, {written.fallbacks:,} fallbacks: {options.output}")
    return OK


def _serve(options: argparse.Namespace) -> int:
    from jobs.serve import serve

    where = {"host": options.host, "port": options.port}
    return serve(options.workspace, options.config, **where, at=options.at, changes=options.changes)


def _evaluate(options: argparse.Namespace) -> int:
    from jobs.evaluate import EvaluateOptions, evaluate_version, write_report
    from jobs.files import check_output
    from jobs.progress import StageProgress
    from jobs.show import print_quality

    if options.output:
        check_output(options.output)
    version, config = _version(options, "index", *(["graph/full"] if options.baselines else []))
    wanted = EvaluateOptions(
        options.protocol, options.ads_only, options.include_current, options.allow_overlap, options.baselines
    )
    with StageProgress().stage("evaluate") as report:
        result = evaluate_version(version.path, version.name, options.events, config, wanted, report)
    if options.output:
        write_report(options.output, result)
    print_quality(result, Console())
    return OK


def _demo(options: argparse.Namespace) -> int:
    from jobs.demo import demo

    return demo(options.directory, small=options.small)


def _version(options: argparse.Namespace, *parts: str):  # type: ignore[no-untyped-def]
    from jobs.config import load_config
    from jobs.store import Workspace

    return Workspace(options.workspace).open(verify=True, parts=parts), load_config(options.config)


def _workspace(command: argparse.ArgumentParser) -> None:
    command.add_argument("--workspace", required=True, metavar="DIR", help="a folder or URI of versions")
    command.add_argument("--config", type=Path, metavar="FILE", help="TOML; every key has a default")


def _date(value: str) -> dt.date:
    try:
        return dt.date.fromisoformat(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{value!r} is no date, expected YYYY-MM-DD") from None


def _port(value: str) -> int:
    if value.isdecimal() and int(value) <= 65_535:
        return int(value)
    raise argparse.ArgumentTypeError(f"{value!r} is no port, expected 0 to 65535 (0 = any free one)")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
