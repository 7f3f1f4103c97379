"""The command line: `lightsage run | retrieve | serve | evaluate | demo`. Each command loads only what it needs.

Exit codes: 0 done, 1 something failed that is not the user's doing, 2 the input or the command line is wrong,
3 the workspace is busy.
"""

import argparse
import datetime as dt
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.logging import RichHandler

log = logging.getLogger("jobs")

OK, FAILED, WRONG_INPUT, BUSY = 0, 1, 2, 3


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(WRONG_INPUT, f"error: {message}\n")


def parser() -> argparse.ArgumentParser:
    """All commands with their flags."""
    top = _Parser(prog="lightsage", description="From raw click logs to filtered ads over HTTP.")
    top.add_argument("--verbose", action="store_true", help="log details, and show the traceback of an error")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="build and publish a version: graph, train, embed, index")
    run.add_argument("--events", nargs="+", action="extend", required=True, metavar="PATH", help="files or folders")
    run.add_argument("--items", metavar="PATH", help="the catalogue")
    run.add_argument("--ads", metavar="PATH", help="without it every item counts as advertised")
    _workspace(run)
    run.add_argument("--date", type=_date, metavar="YYYY-MM-DD", help="last day used; default: the last event's")
    run.set_defaults(call=_run)

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
    serve.add_argument("--port", type=int, default=8000, help="0 = any free one")
    serve.add_argument("--at", metavar="TIME|as-of", help="serve as of that time instead of now")
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
    _log_to_stderr(verbose=options.verbose)
    try:
        code: int = options.call(options)
    except KeyboardInterrupt:
        log.error("interrupted; what was served before still is")
        return 130
    except Exception as error:
        known = _exit_code(error)
        if known is None or options.verbose:
            log.exception("unexpected error; what was served before still is")
        if known is not None:
            log.error("%s", error)
        return FAILED if known is None else known
    return code


def _exit_code(error: Exception) -> int | None:
    """The code of an error that was raised on purpose, None for any other."""
    from graph_build.errors import SparkJobError
    from jobs.errors import JobError, StoreError, WorkspaceBusyError

    if isinstance(error, WorkspaceBusyError):
        return BUSY
    if isinstance(error, SparkJobError):
        return FAILED
    # The rooms' own errors: their modules are light, and named by the module so that none is imported for nothing.
    rooms = {"graph_build.errors", "model.errors", "retrieval.errors"}
    if isinstance(error, JobError | StoreError) or type(error).__module__ in rooms:
        return WRONG_INPUT
    return None


def _run(options: argparse.Namespace) -> int:
    from jobs.config import load_config
    from jobs.progress import StageProgress
    from jobs.run import RunInputs, run
    from jobs.store import Workspace

    inputs = RunInputs(tuple(options.events), options.items, options.ads)
    config = load_config(options.config)
    version = run(inputs, Workspace(options.workspace), config, date=options.date, progress=StageProgress())
    _say(f"published {version.name} in {options.workspace}")
    _say(f"graph report: {version.path / 'graph' / 'report.html'}")
    return OK


def _retrieve(options: argparse.Namespace) -> int:
    from jobs.evaluate import as_time
    from jobs.progress import StageProgress
    from jobs.retrieve import retrieve

    version, config = _version(options)
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

    return serve(options.workspace, options.config, host=options.host, port=options.port, at=options.at)


def _evaluate(options: argparse.Namespace) -> int:
    from jobs.evaluate import EvaluateOptions, evaluate_version, write_report
    from jobs.progress import StageProgress
    from jobs.show import print_quality

    version, config = _version(options)
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


def _version(options: argparse.Namespace):  # type: ignore[no-untyped-def]
    from jobs.config import load_config
    from jobs.store import Workspace

    return Workspace(options.workspace).open(), load_config(options.config)


def _workspace(command: argparse.ArgumentParser) -> None:
    command.add_argument("--workspace", required=True, metavar="DIR", help="a folder or URI of versions")
    command.add_argument("--config", type=Path, metavar="FILE", help="TOML; every key has a default")


def _date(value: str) -> dt.date:
    try:
        return dt.date.fromisoformat(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{value!r} is no date, expected YYYY-MM-DD") from None


def _log_to_stderr(*, verbose: bool) -> None:
    console = Console(stderr=True)
    handler: logging.Handler
    if console.is_terminal:
        handler = RichHandler(console=console, show_path=False, show_time=False, markup=False)
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for room in ("jobs", "graph_build", "model", "retrieval"):
        logging.getLogger(room).setLevel(logging.DEBUG if verbose else logging.INFO)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
