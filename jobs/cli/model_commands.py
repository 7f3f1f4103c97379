"""The commands that examine a version's model: `evaluate`, `select-features` and `semantic-ids`."""

import argparse
from pathlib import Path

from rich.console import Console

from jobs.cli.command import (
    Command,
    ExitCode,
    add_input_check,
    add_measurement,
    add_workspace,
    check_reports,
    dry_run,
    open_version,
    whole_number,
    write_line,
    write_reports,
)
from jobs.progress import StageProgress
from jobs.workspace.atomic_files import check_output


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    add_workspace(parser)
    add_measurement(
        parser,
        after="the version's as-of time",
        protocol="item: find the next item from the current one; session: from all items so far; basket: find the "
        "other items of a basket from one of them (default item)",
        json="also write the measurements to this file",
        html="also write them as a page",
    )
    parser.add_argument(
        "--version", metavar="VERSION", help="the version to measure, published or not; default: the published one"
    )
    parser.add_argument(
        "--ads-only",
        action="store_true",
        help="rank only items with an ad that may be shown in every country, and look only for these",
    )
    parser.add_argument("--baselines", action="store_true", help="also measure simple methods, such as popularity")
    add_input_check(parser)


def _evaluate(options: argparse.Namespace) -> int:
    from jobs.cli.show import print_quality
    from jobs.pipeline.evaluate import EvaluateOptions, evaluate_version
    from jobs.pipeline.quality_page import render_quality

    check_reports(options)
    settings = EvaluateOptions(
        options.protocol, options.ads_only, options.include_current, options.allow_overlap, options.baselines
    )
    version, config = open_version(options, *settings.parts)
    if options.dry_run:
        return dry_run({"events": options.events}, config)
    with StageProgress().stage("evaluate") as report:
        result = evaluate_version(version.path, version.name, options.events, config, settings, report)
    write_reports(options, result, render_quality)
    print_quality(result, Console())
    return ExitCode.OK


def _select_features_arguments(parser: argparse.ArgumentParser) -> None:
    add_workspace(parser)
    parser.add_argument("--keep", type=int, required=True, metavar="K", help="number of feature groups to keep")
    parser.add_argument(
        "--with-ids", action="store_true", help="also compare models that have an embedding per item id"
    )
    parser.add_argument("--output", type=Path, metavar="REPORT.json", help="also write the comparison to this file")


def _select_features(options: argparse.Namespace) -> int:
    from jobs.cli.select_features import select_features
    from jobs.cli.show import print_selection

    if options.output:
        check_output(options.output)
    version, config = open_version(options, "graph")
    with StageProgress().stage("select features") as report:
        graph = version.path / "graph"
        selection = select_features(graph, config, options.keep, report, with_ids=options.with_ids)
    if options.output:
        selection.write(options.output)
    print_selection(selection, Console())
    return ExitCode.OK


def _semantic_ids_arguments(parser: argparse.ArgumentParser) -> None:
    add_workspace(parser)
    parser.add_argument(
        "--levels", type=whole_number(1, 16), default=8, metavar="L", help="numbers in a code (default 8)"
    )
    parser.add_argument(
        "--size", type=whole_number(2, 256), default=256, metavar="K", help="values of each number (default 256)"
    )
    parser.add_argument("--output", required=True, type=Path, metavar="CODES.parquet", help="the table to write")


def _semantic_ids(options: argparse.Namespace) -> int:
    import pyarrow.parquet as pq

    from jobs.cli.semantic_ids import semantic_ids

    check_output(options.output)
    version, config = open_version(options, "graph")
    with StageProgress().stage("semantic IDs") as report:
        table, statistics = semantic_ids(version.path / "graph", config, options.levels, options.size, report)
    pq.write_table(table, options.output)
    shared = f"{statistics['collisions']:.2%} of them share their code with another item"
    write_line(f"{len(table):,} items, {shared}: {options.output}")
    write_line(f"values in use, by level: {', '.join(f'{share:.0%}' for share in statistics['usage'])}")
    return ExitCode.OK


COMMANDS = (
    Command("evaluate", "measure a version on later events", _evaluate_arguments, _evaluate),
    Command(
        "select-features",
        "find the feature groups that a model needs",
        _select_features_arguments,
        _select_features,
    ),
    Command(
        "semantic-ids",
        "learn a short code for every item; items with a common prefix are similar",
        _semantic_ids_arguments,
        _semantic_ids,
    ),
)
