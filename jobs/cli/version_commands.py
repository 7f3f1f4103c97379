"""The commands about versions: `versions`, `compare`, `publish`, `report`, `rollback`, `diff` and `graph show`."""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from jobs.cli.command import (
    Command,
    ExitCode,
    add_events,
    add_measurement,
    add_recipe,
    add_workspace,
    check_reports,
    write_line,
    write_reports,
)
from jobs.config import load_config
from jobs.progress import StageProgress
from jobs.workspace.workspace import Workspace


def _versions(options: argparse.Namespace) -> int:
    from jobs.cli.show import print_versions
    from jobs.nightly.versions import list_versions

    print_versions(list_versions(Workspace(options.workspace)), _wide_console())
    return ExitCode.OK


def _compare_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", metavar="A", help="name of a version, for example the published one")
    parser.add_argument("second", metavar="B", help="name of the version to compare with it, published or not")
    add_workspace(parser)
    add_measurement(
        parser,
        after="the as-of times of both versions",
        protocol="as in `evaluate` (default item)",
        json="also write the differences to this file",
        html="also write a page, with a chart of hits on the tail by hits on all answers",
    )
    add_recipe(parser)


def _compare(options: argparse.Namespace) -> int:
    from jobs.candidates.compare import compare_versions
    from jobs.candidates.contenders import CompareOptions, Contender
    from jobs.candidates.page import render_comparison
    from jobs.cli.show import print_comparison

    check_reports(options)
    workspace, config = Workspace(options.workspace), load_config(options.config, options.recipe)
    settings = CompareOptions(
        options.protocol, options.include_current, options.allow_overlap, frontier=options.html is not None
    )
    with StageProgress().stage("compare") as report:
        contenders = [Contender.open(workspace, name, config) for name in (options.first, options.second)]
        content = compare_versions(contenders, options.events, config, settings, report)
    write_reports(options, content, render_comparison)
    print_comparison(content, _wide_console())
    return ExitCode.OK


def _publish_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("version", metavar="VERSION", help="name of the version to publish")
    add_workspace(parser)
    after = "the as-of times of this version and the published one"
    add_events(parser, f"events after {after}, on which its hits are judged", metavar="TEST.parquet")
    add_recipe(parser)
    parser.add_argument("--force", action="store_true", help="publish even if a gate fails; this is recorded")


def _publish(options: argparse.Namespace) -> int:
    from jobs.candidates.publish import publish_version

    workspace, config = Workspace(options.workspace), load_config(options.config, options.recipe)
    publication = publish_version(
        workspace, options.version, config, events=options.events or (), force=options.force, progress=StageProgress()
    )
    if publication.version == publication.before:
        write_line(f"{publication.version} is published already")
        return ExitCode.OK
    write_line(f"published {publication.version} instead of {publication.before or 'none'} in {options.workspace}")
    if unjudged := [gate.name for gate in publication.gates if not gate.judged]:
        write_line(f"gates that were not judged: {', '.join(unjudged)}; the log says why")
    return ExitCode.OK


def _rollback_arguments(parser: argparse.ArgumentParser) -> None:
    add_workspace(parser)
    parser.add_argument(
        "--to",
        metavar="VERSION",
        help="the version to publish; default: the published one's parent, or the one before it",
    )


def _rollback(options: argparse.Namespace) -> int:
    from jobs.nightly.overview import write_overview
    from jobs.nightly.versions import rollback

    workspace = Workspace(options.workspace)
    before, now = rollback(workspace, options.to)
    write_overview(workspace)
    write_line(f"published {now} instead of {before or 'none'}; running servers switch to it by themselves")
    return ExitCode.OK


def _report(options: argparse.Namespace) -> int:
    from jobs.nightly.overview import PAGE, write_overview

    if not write_overview(Workspace(options.workspace)):
        return ExitCode.FAILED
    write_line(f"overview: {options.workspace.rstrip('/')}/{PAGE}")
    return ExitCode.OK


def _diff_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", metavar="A", help="name of a version")
    parser.add_argument("second", metavar="B", help="name of the version to compare it with")
    add_workspace(parser)


def _diff(options: argparse.Namespace) -> int:
    from jobs.cli.show import print_diff
    from jobs.nightly.versions import diff

    workspace = Workspace(options.workspace)
    print_diff(diff(workspace, options.first, options.second, load_config(options.config)), _wide_console())
    return ExitCode.OK


def _graph_arguments(parser: argparse.ArgumentParser) -> None:
    show = parser.add_subparsers(required=True, metavar="show").add_parser(
        "show", help="draw an item and its neighbours"
    )
    show.add_argument("item", metavar="ITEM", help="id of the item")
    add_workspace(show)
    show.add_argument(
        "--neighbours", type=int, default=30, metavar="N", help="draw the N strongest neighbours (default 30)"
    )
    show.add_argument("--output", type=Path, metavar="PAGE.html", help="the page to write; default: ego-ITEM.html")
    show.add_argument("--gexf", type=Path, metavar="FILE.gexf", help="also write a GEXF file, for example for Gephi")


def _graph_show(options: argparse.Namespace) -> int:
    from graph_build.report.ego import ego_network, render_ego, write_gexf

    version = Workspace(options.workspace).open(parts=("graph/full", "graph/tables"))
    network = ego_network(version.path / "graph", options.item, options.neighbours)
    page = options.output or Path(f"ego-{''.join(c if c.isalnum() or c in '-_.' else '_' for c in options.item)}.html")
    page.write_text(render_ego(network), encoding="utf-8")
    write_line(f"{len(network) - 1} neighbours, {network.number_of_edges()} edges: {page}")
    if options.gexf:
        write_gexf(network, options.gexf)
        write_line(f"GEXF: {options.gexf}")
    return ExitCode.OK


def _wide_console() -> Console:
    """Return a console; if the output goes to a file or another program, it is so wide that names are not shortened."""
    return Console() if sys.stdout.isatty() else Console(width=240)


COMMANDS = (
    Command("versions", "list the versions of a workspace, published or not", add_workspace, _versions),
    Command(
        "compare", "measure what one version finds more than another, on later events", _compare_arguments, _compare
    ),
    Command(
        "publish",
        "publish a version that was built with `run --no-publish`, if it passes the gates of a night",
        _publish_arguments,
        _publish,
        publishes=True,
    ),
    Command("report", "write the page that links a workspace's reports", add_workspace, _report),
    Command("rollback", "publish an earlier version again", _rollback_arguments, _rollback),
    Command("diff", "show what changed between two versions", _diff_arguments, _diff),
    Command("graph", "look into the item graph", _graph_arguments, _graph_show),
)
