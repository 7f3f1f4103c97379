"""`lightsage demo`: builds, measures and queries a version of the built-in marketplace, and shows the time it takes."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from jobs.cli.hints import document, program, shortest
from jobs.cli.show import print_quality, print_results
from jobs.config import Config
from jobs.marketplace import MarketplaceConfig, MarketplaceFiles, generate
from jobs.nightly.overview import PAGE, QUALITY, write_overview
from jobs.pipeline.build import run
from jobs.pipeline.evaluate import EvaluateOptions, evaluate_version, write_report
from jobs.pipeline.inputs import RunInputs
from jobs.pipeline.quality_page import render_quality
from jobs.progress import StageProgress
from jobs.workspace.version_folder import Version
from jobs.workspace.workspace import Workspace

_ABOUT_QUALITY = (
    "HR@20 is the share of test queries whose next item a model ranked among its first 20. Tail items had one to five "
    "events before the test day, cold items none. {glossary} explains every column and model."
)


def demo(directory: Path, *, small: bool) -> None:
    """Generate the marketplace, build a version of it, measure the version on the next day, and answer one query.

    Args:
        directory: the folder for the data and the workspace.
        small: whether to generate a small marketplace, like those of the tests.
    """
    console = Console()
    progress = StageProgress()
    settings = MarketplaceConfig.small() if small else MarketplaceConfig()
    (directory / "marketplace").mkdir(parents=True, exist_ok=True)  # before any work, so that an error comes at once
    with progress.stage("marketplace") as report:
        files = generate(settings, directory / "marketplace", report)
    workspace, config = Workspace(directory / "workspace"), Config()
    inputs = RunInputs((str(files.events),), str(files.items), str(files.ads))
    version = run(inputs, workspace, config, date=None, progress=progress)
    results = _measure(version, files, config, progress)
    for name, result in results.items():
        write_report(directory / name, result)
        page = f"{QUALITY}/{version.name}{'-ads' if 'ads' in name else ''}.html"
        workspace.write_file(page, render_quality(result).encode())
    write_overview(workspace)

    console.rule("Quality on the next day: all items, then only items whose ad may be shown in every country")
    console.print(_ABOUT_QUALITY.format(glossary=document("docs/glossary.md")), highlight=False)
    for result in results.values():
        print_quality(result, console)
    console.rule("One query: ads for a shopper who looks at an item")
    _print_query(version, config, console)
    console.rule("Time and memory of each stage")
    _print_stages(progress, console)
    _print_hints(directory, console)


def _measure(
    version: Version, files: MarketplaceFiles, config: Config, progress: StageProgress
) -> dict[str, dict[str, Any]]:
    """Return name of a report file → quality on the test day: one file for all items, and one for ads only."""
    results = {}
    for name, ads_only in (("quality.json", False), ("quality-ads.json", True)):
        with progress.stage("evaluate ads" if ads_only else "evaluate") as report:
            options = EvaluateOptions(ads_only=ads_only, baselines=True)
            results[name] = evaluate_version(
                version.path, version.name, [str(files.test_events)], config, options, report
            )
    return results


def _print_query(version: Version, config: Config, console: Console) -> None:
    """Print the ads for an ordinary item: the item of median popularity among items with more than five events."""
    import numpy as np

    from retrieval.index_folder import read_index
    from retrieval.search.request import RetrievalRequest
    from retrieval.search.retriever import Retriever

    index = read_index(version.path / "index")
    catalogue = index.catalogue
    candidates = np.flatnonzero(catalogue.events > 5)
    by_popularity = np.argsort(catalogue.popularity[candidates], kind="stable")
    item_id = str(catalogue.item_ids[candidates[by_popularity[len(candidates) // 2]]])
    response = Retriever.of(index, config.retrieval).retrieve(RetrievalRequest([item_id], 8))
    attributes = {str(i): a for i, a in zip(catalogue.item_ids, catalogue.attributes.to_pylist(), strict=True)}

    def describe(identity: str) -> str:
        item = attributes[identity]
        return f"{item.get('title') or identity} ({item.get('category')}, {item.get('price')})"

    lines: list[dict[str, Any]] = [
        {"rank": rank, "ad": r.ad_id, "item": describe(r.item_id), "score": r.score, "reason": r.reason}
        for rank, r in enumerate(response.results, start=1)
    ]
    print_results(f"{item_id}: {describe(item_id)}", lines, console)


def _print_stages(progress: StageProgress, console: Console) -> None:
    table = Table()
    table.add_column("stage")
    table.add_column("seconds", justify="right")
    table.add_column("peak memory, GiB", justify="right")
    for record in progress.records:
        table.add_row(record.name, f"{record.seconds:.1f}", f"{record.peak_bytes / 2**30:.1f}")
    total = sum(record.seconds for record in progress.records)
    table.add_section()
    table.add_row("all", f"{total:.1f}", "")
    console.print(table)


def _print_hints(directory: Path, console: Console) -> None:
    lines = {
        "All reports": shortest(directory / "workspace" / PAGE),
        "Measurements": shortest(directory / "quality.json"),
        "Serve it": f"{program()} serve --workspace {shortest(directory / 'workspace')} --at as-of",
    }
    console.print()
    for name, hint in lines.items():
        console.print(f"{name:15} {hint}", soft_wrap=True)
