"""The commands that build versions (`run`, `nightly`), and the commands for stored days (`ingest`, `forget`)."""

import argparse
import contextlib

from jobs.cli.command import (
    Command,
    ExitCode,
    add_events,
    add_input_check,
    add_tables,
    add_workspace,
    day,
    dry_run,
    write_line,
)
from jobs.config import load_config
from jobs.errors import ConfigError, InputNotFoundError, NoVersionError, RolledBackError
from jobs.progress import StageProgress
from jobs.workspace.manifest import UNPUBLISHED
from jobs.workspace.workspace import Workspace


def _run_arguments(parser: argparse.ArgumentParser) -> None:
    add_events(parser, "files, folders or patterns of events")
    parser.add_argument("--stored-days", action="store_true", help="instead of --events: use the days from `ingest`")
    parser.add_argument("--graph", metavar="PATH", help="instead of all tables: a graph that was built on a cluster")
    add_tables(parser)
    add_workspace(parser)
    parser.add_argument(
        "--date", type=day, metavar="YYYY-MM-DD", help="last day to use; default: the day of the last event"
    )
    parser.add_argument(
        "--no-publish", action="store_true", help="store the version beside the published ones, to compare it first"
    )
    add_input_check(parser)


def _run(options: argparse.Namespace) -> int:
    from jobs.nightly.overview import PAGE, write_overview
    from jobs.pipeline.build import run
    from jobs.pipeline.days import days_uri
    from jobs.pipeline.inputs import RunInputs

    tables = (options.events, options.items, options.ads, options.date, options.stored_days or None)
    if options.graph is not None and any(value is not None for value in tables):
        raise InputNotFoundError(
            "got --graph together with --events, --stored-days, --items, --ads or --date, which a graph already "
            "contains; give only --graph"
        )
    if options.graph is None and (options.events is not None) == options.stored_days:
        raise InputNotFoundError("expected exactly one of --events, --stored-days and --graph; give one of them")
    workspace, config = Workspace(options.workspace), load_config(options.config, options.recipe)
    days = days_uri(workspace, config) if options.stored_days else None
    inputs = RunInputs(tuple(options.events or ()), options.items, options.ads, options.graph, days)
    if options.dry_run:
        return dry_run(inputs.tables(), config)
    try:
        publish = not options.no_publish
        version = run(inputs, workspace, config, date=options.date, progress=StageProgress(), publish=publish)
    except RolledBackError as error:
        write_line(str(error))
        return ExitCode.OK
    if publish:
        write_line(f"published {version.name} in {options.workspace}")
    elif version.manifest.publication == UNPUBLISHED:
        _write_next_steps(version.name, workspace)
    else:
        write_line(f"{version.name} in {options.workspace} was built from the same input before, and was published")
    write_line(f"graph report: {version.path / 'graph' / 'report.html'}")
    if write_overview(workspace):
        write_line(f"all reports: {options.workspace.rstrip('/')}/{PAGE}")
    return ExitCode.OK


def _write_next_steps(name: str, workspace: Workspace) -> None:
    write_line(f"built {name} in {workspace.uri}, unpublished")
    with contextlib.suppress(NoVersionError):  # without a published version, there is nothing to compare with
        current = workspace.current()
        write_line(f"compare it: lightsage compare {current} {name} --events TEST --workspace {workspace.uri}")
    write_line(f"publish it: lightsage publish {name} --workspace {workspace.uri}")


def _ingest_arguments(parser: argparse.ArgumentParser) -> None:
    add_events(parser, "files, folders or patterns of events", required=True)
    parser.add_argument(
        "--day",
        type=day,
        action="append",
        metavar="YYYY-MM-DD",
        help="a day that the events cover in full, replacing what is stored; default: days named by files or folders",
    )
    add_workspace(parser)
    parser.add_argument("--force", action="store_true", help="replace days even if much of what is stored is lost")
    add_input_check(parser)


def _ingest(options: argparse.Namespace) -> int:
    from jobs.pipeline.days import DayInputs, ingest

    workspace, config = Workspace(options.workspace), load_config(options.config, options.recipe)
    if options.dry_run:
        return dry_run({"events": options.events}, config)
    inputs = DayInputs(options.events, options.day, options.force)
    result = ingest(inputs, workspace, config, progress=StageProgress())
    write_line(f"stored {', '.join(map(str, result.days)) or 'nothing new'} in {options.workspace}")
    for line in result.lines:
        write_line(line)
    return ExitCode.OK


def _forget_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--user", nargs="+", action="extend", required=True, metavar="ID", help="ids from the column user_id"
    )
    add_workspace(parser)


def _forget(options: argparse.Namespace) -> int:
    from jobs.pipeline.days import forget

    workspace, config = Workspace(options.workspace), load_config(options.config)
    result = forget(options.user, workspace, config, progress=StageProgress())
    write_line(f"{result.sessions:,} sessions deleted from the stored days of {options.workspace}")
    if result.refused:
        write_line(f"{result.refused:,} refused rows deleted")
    if result.swept:
        write_line(f"deleted old refused rows, and what an interrupted run had left: {', '.join(result.swept)}")
    write_line("published versions still hold what was learned before: build a new one, and delete the old ones")
    return ExitCode.OK


def _nightly_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--date", type=day, required=True, metavar="YYYY-MM-DD", help="the day that has just ended")
    add_events(
        parser, "events of that day; {date} in a path is replaced by the date; default: the day was stored by `ingest`"
    )
    parser.add_argument(
        "--graph",
        metavar="PATH",
        help="instead of stored days and all tables: a graph that was built on a cluster with this day held out; "
        "{date} is replaced",
    )
    add_tables(parser)
    add_workspace(parser)
    parser.add_argument("--force", action="store_true", help="publish even if a gate fails; this is recorded")
    add_input_check(parser)


def _nightly(options: argparse.Namespace) -> int:
    from jobs.nightly.nightly import NightInputs, nightly
    from jobs.nightly.outputs import report_failure

    if options.graph is not None and any((options.events, options.items, options.ads)):
        raise InputNotFoundError(
            "got --graph together with --events, --items or --ads, which a graph already contains; give only --graph"
        )
    workspace = Workspace(options.workspace)
    try:
        config = load_config(options.config, options.recipe)
    except ConfigError as error:
        if not options.dry_run:
            report_failure(options.date, error, workspace)
        raise
    graph = options.graph and options.graph.replace("{date}", str(options.date))
    inputs = NightInputs(options.date, tuple(options.events or ()), options.items, options.ads, graph)
    if options.dry_run:
        return dry_run(inputs.tables(), config)
    night = nightly(inputs, workspace, config, force=options.force, progress=StageProgress())
    held = f"; {night.held}" if night.held else ""
    write_line(f"{night.outcome} {night.version} in {options.workspace}{held}")
    if unjudged := [gate.name for gate in night.gates if not gate.judged]:
        write_line(f"gates that were not judged: {', '.join(unjudged)}; the morning report says why")
    write_line(f"morning report: {options.workspace}/{night.folder}/report.html")
    return ExitCode.OK


COMMANDS = (
    Command(
        "run", "build a version from events (graph, model, index) and publish it", _run_arguments, _run, publishes=True
    ),
    Command("ingest", "store whole days of events for later builds", _ingest_arguments, _ingest),
    Command("forget", "delete users from the stored days", _forget_arguments, _forget),
    Command(
        "nightly",
        "build a version after each day, compare it with the published one, and publish it if it passes the gates",
        _nightly_arguments,
        _nightly,
        publishes=True,
    ),
)
