"""Nights without Spark, torch and FAISS: each stage writes a small, plausible output within milliseconds.

Everything else is real: the commands, the workspace and its locks, checkpoints, stored days, gates, records, reports,
publication and retention. The log of a day is a JSON file: `text` is its content, and `good` says whether a night
with it passes the gates.
"""

import datetime as dt
import json
import os
import signal
import sys
import traceback
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from jobs import progress
from jobs.cli.cli import main
from jobs.nightly import nightly, parent
from jobs.nightly.comparison import Comparison
from jobs.pipeline import build, version_build
from jobs.pipeline.days import DayInputs, days_uri

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
MEANWHILE: list[Callable[[], object]] = []
"""Functions that stand for what a person does while a night is built; each is called once, in the middle."""


def install(patch: pytest.MonkeyPatch) -> None:
    """Replace the stages of this process by stubs."""
    model = types.ModuleType("model.artefact")
    model.save_model = lambda folder, *_: _write(folder / "model.json", {})  # type: ignore[attr-defined]
    patch.setitem(sys.modules, "model.artefact", model)
    stubs: dict[Any, dict[str, Any]] = {
        version_build: {
            "build_graph": _build_graph,
            "choose": lambda *_, **__: _Choice(),
            "fit_everything": _fit_everything,
            "index_version": _index_version,
        },
        version_build.HoldoutChoice: {"load": classmethod(lambda *_: _Choice())},
        version_build.VersionBuild: {
            "_warm_start": lambda _: None,
            "_aligned": lambda _, embeddings: embeddings,
        },
        nightly: {
            "check_inputs": lambda *_, **__: None,
            "store_days": _store_days,
            "compare": lambda *_: Comparison(_quality(), {}),
            "neighbour_overlap": lambda *_: 0.8,
            "worst_norm": lambda folder: 0.0 if json.loads((folder / "item.json").read_text())["good"] else 0.5,
            "code_version": lambda: "c0de",
        },
        build: {"code_version": lambda: "c0de"},
        nightly._Night: {"_has_usable_weights": lambda _, followed: bool(followed and not followed.has_seen_the_day)},
        parent: {"unreadable_part": lambda _: None},
        # For speed: a killed process loses nothing that it wrote, even without fsync, and no test looks at memory.
        os: {"fsync": lambda _: None},
        progress: {"memory_bytes": lambda _: 0},
    }
    for target, values in stubs.items():
        for name, value in values.items():
            patch.setattr(target, name, value)
    MEANWHILE.clear()


def run(arguments: Sequence[str], output: Path, *, kill_at: tuple[Path, int] | None = None) -> int:
    """Run a command in a child process; return its exit code, or -9 if it was killed.

    Args:
        arguments: the arguments of `lightsage`.
        output: the file for the command's output.
        kill_at: (a folder, n): the process kills itself before its n-th change below the folder, counted from 0.
    """
    child = os.fork()
    if child == 0:
        code = 99
        try:
            sink = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(sink, 1)
            os.dup2(sink, 2)
            sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
            sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
            if kill_at is not None:
                sys.addaudithook(_killer(*kill_at))
            code = main(arguments)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _killer(folder: Path, step: int) -> Callable[[str, tuple[Any, ...]], None]:
    remaining = step

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal remaining
        writes = event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link") or (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
        )
        if not writes or not os.fsdecode(arguments[0] if not isinstance(arguments[0], int) else "").startswith(
            str(folder)
        ):
            return
        if remaining == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        remaining -= 1

    return hook


class _Choice:
    record = types.SimpleNamespace(steps=2, schedule_steps=4, pairs=3, share=0.5, curve=((1, 5.0, 0.1), (2, 4.0, 0.2)))
    weights = types.SimpleNamespace(model_dump=dict)
    encoder_share = 0.0
    reranker = None
    embeddings = None

    def save(self, folder: Path) -> None:
        _write(folder / "choice.json", {})


def _store_days(inputs: DayInputs, workspace: Any, config: Any, report: Any) -> Any:
    from graph_build.days import days_file
    from graph_build.days.claims import Action
    from graph_build.days.ingest import IngestResult

    root = days_uri(workspace, config)
    file = days_file.read_days_file(root)
    assert inputs.days
    [day] = inputs.days
    text = Path(inputs.paths[0]).read_text()
    last = dt.datetime.combine(day, dt.time(23, 59), dt.UTC)
    with days_file.new_ingest_folder(root) as folder:
        sessions = Path(root) / folder / str(day) / "sessions"
        sessions.mkdir(parents=True)
        (sessions / "day.json").write_text(text)
    microseconds = int(last.timestamp()) * 1_000_000
    stored = days_file.StoredDay(f"{folder}/{day}", 100, microseconds, 0, 0, [], inputs.source)
    days_file.put_days(root, file, {day: stored}, config.graph)
    return IngestResult({day: stored}, {}, {day: Action.REPLACE})


def _build_graph(inputs: Any, folder: Path, config: Any, date: dt.date, report: Any, *, holdout_day: dt.date) -> None:
    from graph_build.days.store import stored_days
    from graph_build.summary import GraphSummary

    days = stored_days(inputs.days, config.graph, date)
    content = {
        str(day): json.loads((Path(days.root) / facts.folder / "sessions" / "day.json").read_text())
        for day, facts in sorted(days.days.items())
    }
    _write(folder / "full" / "content.json", content)
    summary = GraphSummary(
        as_of=days.as_of,
        events={"total": 100 * len(content)},
        quarantined={},
        nodes=50,
        tail=10,
        edges={"swing": 100, "co_search": 100},
        transitions={},
        sessions=20,
        holdout_sessions=20,
        capped={},
        ads={},
        isolated=1,
    )
    (folder / "summary.json").write_text(summary.to_json())


def _fit_everything(graph: Path, *_: Any, **__: Any) -> Any:
    days = json.loads((graph / "full" / "content.json").read_text())
    last = days[max(days)]
    embeddings = types.SimpleNamespace(save=lambda folder: _write(folder / "item.json", last))
    while MEANWHILE:
        MEANWHILE.pop()()
    return types.SimpleNamespace(embeddings=embeddings)


def _index_version(graph: Path, _: Path, folder: Path, *__: Any) -> None:
    days = json.loads((graph / "full" / "content.json").read_text())
    _write(folder / "meta.json", {"recall_at_100": 0.99, "days": {day: facts["text"] for day, facts in days.items()}})


def _quality() -> list[dict[str, Any]]:
    row = {"model": "fit", "slice": "all", "k": 100, "low": 0.3, "high": 0.5, "n": 500}
    return [row | {"metric": "HR", "value": 0.4}, row | {"metric": "coverage", "value": 0.5}]


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
