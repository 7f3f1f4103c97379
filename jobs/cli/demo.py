"""`lightsage demo`: the whole way on the built-in marketplace, from raw logs to ads, and what each stage took."""

import logging
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from jobs.cli.show import print_quality, print_results
from jobs.config import Config
from jobs.marketplace import MarketplaceConfig, generate
from jobs.pipeline.build import run
from jobs.pipeline.evaluate import EvaluateOptions, evaluate_version, write_report
from jobs.pipeline.inputs import RunInputs
from jobs.progress import StageProgress
from jobs.workspace.workspace import Version, Workspace

log = logging.getLogger(__name__)


def demo(directory: Path, *, small: bool) -> int:
    """Generate the marketplace, build a version of it, measure it on the day after, and answer one query."""
    console = Console()
    progress = StageProgress()
    settings = MarketplaceConfig.small() if small else MarketplaceConfig()
    (directory / "marketplace").mkdir(parents=True, exist_ok=True)  # refused before anything was generated
    with progress.stage("marketplace") as report:
        files = generate(settings, directory / "marketplace", report)
    workspace = Workspace(directory / "workspace")
    inputs = RunInputs((str(files.events),), str(files.items), str(files.ads))
    config = Config()
    version = run(inputs, workspace, config, date=None, progress=progress)
    results = []
    for ads_only in (False, True):
        with progress.stage("evaluate ads" if ads_only else "evaluate") as report:
            options = EvaluateOptions(ads_only=ads_only, baselines=True)
            results.append(
                evaluate_version(version.path, version.name, [str(files.test_events)], config, options, report)
            )
    write_report(directory / "quality.json", results[0])
    write_report(directory / "quality-ads.json", results[1])

    console.rule("Quality on the next day: all items, then ads in flight only")
    for result in results:
        print_quality(result, console)
    console.rule("One query")
    _show_query(version, config, console)
    console.rule("Time by stage")
    _show_stages(progress, console)
    console.print(f"\nGraph report    {version.path / 'graph' / 'report.html'}", soft_wrap=True)
    console.print(f"Quality report  {directory / 'quality.json'}", soft_wrap=True)
    console.print(
        f"Serve it        .venv/bin/lightsage serve --workspace {directory / 'workspace'} --at as-of", soft_wrap=True
    )
    return 0


def _show_query(version: Version, config: Config, console: Console) -> None:
    """The ads beside an ordinary item: the known one of median popularity that has a title."""
    import numpy as np

    from retrieval.index_folder import read_index
    from retrieval.search.request import RetrievalRequest
    from retrieval.search.retriever import Retriever

    index = read_index(version.path / "index")
    catalogue = index.catalogue
    seen = np.flatnonzero(catalogue.events > 5)
    row = int(seen[np.argsort(catalogue.popularity[seen], kind="stable")[len(seen) // 2]])
    item_id = str(catalogue.item_ids[row])
    response = Retriever.of(index, config.retrieval).retrieve(RetrievalRequest([item_id], 8))
    describe = catalogue.attributes.to_pylist
    titles = {str(i): a for i, a in zip(catalogue.item_ids, describe(), strict=True)}

    def shown(identity: str) -> str:
        about = titles[identity]
        return f"{about.get('title') or identity} ({about.get('category')}, {about.get('price')})"

    lines: list[dict[str, Any]] = [
        {"rank": rank, "ad": r.ad_id, "item": shown(r.item_id), "score": r.score, "reason": r.reason}
        for rank, r in enumerate(response.results, start=1)
    ]
    print_results(f"{item_id}: {shown(item_id)}", lines, console)


def _show_stages(progress: StageProgress, console: Console) -> None:
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
