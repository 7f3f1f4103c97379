"""The commands about published versions: `versions`, `rollback`, `diff` and `graph show`."""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from jobs.cli.command import Command, ExitCode, add_workspace, write_line
from jobs.config import load_config
from jobs.workspace.workspace import Workspace


def _versions(options: argparse.Namespace) -> int:
    from jobs.cli.show import print_versions
    from jobs.nightly.versions import list_versions

    print_versions(list_versions(Workspace(options.workspace)), _wide_console())
    return ExitCode.OK


def _rollback_arguments(parser: argparse.ArgumentParser) -> None:
    add_workspace(parser)
    parser.add_argument(
        "--to", metavar="VERSION", help="the version to publish; default: the parent of the published one"
    )


def _rollback(options: argparse.Namespace) -> int:
    from jobs.nightly.versions import rollback

    before, now = rollback(Workspace(options.workspace), options.to)
    write_line(f"published {now} instead of {before or 'none'}; running servers switch to it by themselves")
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
    """Return a console that does not shorten names when the output goes to a file or another program."""
    return Console() if sys.stdout.isatty() else Console(width=240)


COMMANDS = (
    Command("versions", "list the versions of a workspace", add_workspace, _versions),
    Command("rollback", "publish an earlier version again", _rollback_arguments, _rollback),
    Command("diff", "show what changed between two versions", _diff_arguments, _diff),
    Command("graph", "look into the item graph", _graph_arguments, _graph_show),
)
