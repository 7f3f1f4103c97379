"""The command line: `lightsage COMMAND`. Each command loads only what it needs.

Exit codes: 0 done, 1 something failed that is not the user's doing, 2 the input or the command line is wrong,
3 the workspace is busy, 4 a night did not pass its gates, 130 interrupted.
"""

import argparse
import errno
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from jobs.cli.options import WRONG_INPUT, parser
from jobs.logs import is_interrupt, log_to_stderr
from jobs.workspace.atomic_files import is_disk_full

log = logging.getLogger("jobs")

OK, FAILED, BUSY, REFUSED, INTERRUPTED = 0, 1, 3, 4, 130

# The flags that take a path, and what is wrong with a path that the user gave and can give another of.
_PATHS = ("workspace", "directory", "config", "events", "items", "ads", "queries", "output", "changes", "gexf")
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
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    # Read when torch and faiss are first imported: threads that wait by spinning starve each other on a busy host.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    options = parser().parse_args(arguments)
    log_to_stderr(verbose=options.verbose, lines=options.log)
    try:
        code = COMMANDS[options.command](options)
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
    if isinstance(error, OSError) and is_disk_full(error):
        return FAILED, f"{error.filename or 'the disk'}: {error.strerror}; free some space and run again"
    return _exit_code(error), str(error)


def _unusable_path(error: OSError, options: argparse.Namespace) -> str | None:
    """What to say when the error is about a path that the user gave."""
    if error.filename is None or error.errno not in _UNUSABLE:
        return None
    path = Path(os.fsdecode(error.filename)).absolute()
    named: list[tuple[str, Path]] = []
    for flag in _PATHS:
        value = getattr(options, flag, None)
        named += [(flag, given) for given in (value if isinstance(value, list) else [value] if value else [])]
    named.sort(key=lambda one: Path(one[1]).absolute() != path)  # what is named itself, before what is near it
    for flag, given in named:
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
    from jobs.errors import InputNotFoundError
    from jobs.pipeline.build import run
    from jobs.pipeline.days import days_uri
    from jobs.pipeline.inputs import RunInputs
    from jobs.progress import StageProgress
    from jobs.workspace.workspace import Workspace

    tables = (options.events, options.items, options.ads, options.date, options.stored_days or None)
    if options.graph is not None and any(given is not None for given in tables):
        raise InputNotFoundError("--graph stands for events, --items, --ads and --date: give it alone")
    if options.graph is None and (options.events is not None) == options.stored_days:
        raise InputNotFoundError("give either --events, or --stored-days, or a --graph that was built from events")
    days = days_uri(Workspace(options.workspace), load_config(options.config)) if options.stored_days else None
    inputs = RunInputs(tuple(options.events or ()), options.items, options.ads, options.graph, days)
    config = load_config(options.config)
    version = run(inputs, Workspace(options.workspace), config, date=options.date, progress=StageProgress())
    _say(f"published {version.name} in {options.workspace}")
    _say(f"graph report: {version.path / 'graph' / 'report.html'}")
    return OK


def _ingest(options: argparse.Namespace) -> int:
    from jobs.config import load_config
    from jobs.pipeline.days import ingest
    from jobs.progress import StageProgress
    from jobs.workspace.workspace import Workspace

    workspace, config = Workspace(options.workspace), load_config(options.config)
    days = ingest(options.events, workspace, config, days=options.day, progress=StageProgress())
    _say(f"stored {', '.join(map(str, days))} in {options.workspace}")
    return OK


def _forget(options: argparse.Namespace) -> int:
    from jobs.config import load_config
    from jobs.pipeline.days import forget
    from jobs.progress import StageProgress
    from jobs.workspace.workspace import Workspace

    gone = forget(options.user, Workspace(options.workspace), load_config(options.config), progress=StageProgress())
    _say(f"{gone:,} sessions deleted from the stored days of {options.workspace}")
    return OK


def _nightly(options: argparse.Namespace) -> int:
    from jobs.config import load_config
    from jobs.nightly.nightly import NightInputs, nightly
    from jobs.progress import StageProgress
    from jobs.workspace.workspace import Workspace

    workspace, config = Workspace(options.workspace), load_config(options.config)
    inputs = NightInputs(options.date, tuple(options.events or ()), options.items, options.ads)
    night = nightly(inputs, workspace, config, force=options.force, progress=StageProgress())
    _say(f"{night.outcome} {night.version} in {options.workspace}")
    _say(f"morning report: {options.workspace}/{night.folder}/report.html")
    return OK


def _versions(options: argparse.Namespace) -> int:
    from jobs.cli.show import print_versions
    from jobs.nightly.versions import list_versions
    from jobs.workspace.workspace import Workspace

    print_versions(list_versions(Workspace(options.workspace)), _wide())
    return OK


def _rollback(options: argparse.Namespace) -> int:
    from jobs.nightly.versions import rollback
    from jobs.workspace.workspace import Workspace

    before, now = rollback(Workspace(options.workspace), options.to)
    _say(f"published {now} instead of {before}; running servers take it over by themselves")
    return OK


def _diff(options: argparse.Namespace) -> int:
    from jobs.cli.show import print_diff
    from jobs.config import load_config
    from jobs.nightly.versions import diff
    from jobs.workspace.workspace import Workspace

    workspace = Workspace(options.workspace)
    print_diff(diff(workspace, options.one, options.other, load_config(options.config)), _wide())
    return OK


def _wide() -> Console:
    """Names are not cut where a script may read them."""
    return Console() if sys.stdout.isatty() else Console(width=240)


def _graph_show(options: argparse.Namespace) -> int:
    from graph_build.report.ego import ego_network, render_ego, write_gexf
    from jobs.workspace.workspace import Workspace

    version = Workspace(options.workspace).open(parts=("graph/full", "graph/tables"))
    network = ego_network(version.path / "graph", options.item, options.neighbours)
    page = options.output or Path(f"ego-{''.join(c if c.isalnum() or c in '-_.' else '_' for c in options.item)}.html")
    page.write_text(render_ego(network), encoding="utf-8")
    _say(f"{len(network) - 1} neighbours, {network.number_of_edges()} edges: {page}")
    if options.gexf:
        write_gexf(network, options.gexf)
        _say(f"GEXF: {options.gexf}")
    return OK


def _retrieve(options: argparse.Namespace) -> int:
    from jobs.cli.retrieve import retrieve
    from jobs.pipeline.evaluate import as_time
    from jobs.progress import StageProgress

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
    from jobs.cli.serve import serve

    where = {"host": options.host, "port": options.port}
    return serve(options.workspace, options.config, **where, at=options.at, changes=options.changes)


def _evaluate(options: argparse.Namespace) -> int:
    from jobs.cli.show import print_quality
    from jobs.pipeline.evaluate import EvaluateOptions, evaluate_version, write_report
    from jobs.progress import StageProgress
    from jobs.workspace.atomic_files import check_output

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


def _select_features(options: argparse.Namespace) -> int:
    from jobs.cli.select_features import select_features
    from jobs.cli.show import print_selection
    from jobs.progress import StageProgress
    from jobs.workspace.atomic_files import check_output

    if options.output:
        check_output(options.output)
    version, config = _version(options, "graph")
    with StageProgress().stage("select features") as report:
        graph = version.path / "graph"
        selection = select_features(graph, config, options.keep, report, with_ids=options.with_ids)
    if options.output:
        selection.write(options.output)
    print_selection(selection, Console())
    return OK


def _semantic_ids(options: argparse.Namespace) -> int:
    from jobs.cli.semantic_ids import semantic_ids, write
    from jobs.progress import StageProgress
    from jobs.workspace.atomic_files import check_output

    check_output(options.output)
    version, config = _version(options, "graph")
    with StageProgress().stage("semantic IDs") as report:
        table, found = semantic_ids(version.path / "graph", config, options.levels, options.size, report)
    write(options.output, table)
    _say(f"{len(table):,} items, {found['collisions']:.2%} of them with a code that another has too: {options.output}")
    _say(f"values used, by level: {', '.join(f'{share:.0%}' for share in found['usage'])}")
    return OK


def _config(options: argparse.Namespace) -> int:
    from jobs.config import load_config
    from jobs.settings import as_toml

    sys.stdout.write(as_toml(load_config(options.config)))
    return OK


def _demo(options: argparse.Namespace) -> int:
    from jobs.cli.demo import demo

    return demo(options.directory, small=options.small)


def _version(options: argparse.Namespace, *parts: str):  # type: ignore[no-untyped-def]
    from jobs.config import load_config
    from jobs.workspace.workspace import Workspace

    return Workspace(options.workspace).open(verify=True, parts=parts), load_config(options.config)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": _run,
    "ingest": _ingest,
    "forget": _forget,
    "nightly": _nightly,
    "versions": _versions,
    "rollback": _rollback,
    "diff": _diff,
    "graph": _graph_show,
    "retrieve": _retrieve,
    "serve": _serve,
    "evaluate": _evaluate,
    "select-features": _select_features,
    "semantic-ids": _semantic_ids,
    "config": _config,
    "demo": _demo,
}


if __name__ == "__main__":
    sys.exit(main())
