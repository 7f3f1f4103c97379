"""A small marketplace, built once from end to end through the command line, and empty workspaces."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from jobs.cli.cli import main
from jobs.marketplace import MarketplaceConfig, MarketplaceFiles, generate
from jobs.workspace.manifest import Manifest, version_name
from jobs.workspace.workspace import Workspace
from tests.spark_sessions import small_session

AS_OF = datetime(2026, 3, 15, 23, 59, 59, tzinfo=UTC)
SMALL_MODEL = {"dim": 16, "members": 1, "train": {"max_epochs": 0.5, "threads": 1}}


def ignore_progress(_: str, __: float) -> None:
    """A progress callback that does nothing."""


def manifest(fingerprint: str = "0" * 32, as_of: datetime = AS_OF) -> Manifest:
    """Return a manifest with this fingerprint and as-of time; all other fields are always the same."""
    return Manifest(
        version=version_name(as_of, fingerprint),
        fingerprint=fingerprint,
        as_of=as_of,
        config={"k": 20},
        inputs={},
        code_version="c0de",
    )


def publish(workspace: Workspace, content: str = "vectors", fingerprint: str = "0" * 32) -> str:
    """Publish a version of one file; return the version's name."""
    with workspace.lock(), workspace.scratch_folder() as staged:
        (staged / "index").mkdir()
        (staged / "index" / "vectors.faiss").write_text(content)
        return workspace.publish(staged, manifest(fingerprint)).name


def add(workspace: Workspace, digit: str) -> str:
    """Add an unpublished version of one file, with one repeated digit as its fingerprint; return the version's name."""
    with workspace.lock(), workspace.scratch_folder() as staged:
        (staged / "file").write_text(digit)
        return workspace.add(staged, manifest(digit * 32)).name


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "ws")


@pytest.fixture(params=["local", "memory"])
def any_workspace(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Workspace(tmp_path / "ws" if request.param == "local" else f"memory://{tmp_path.name}")


@dataclass(frozen=True)
class Shop:
    """A marketplace, the workspace of its version, and the configuration of its build."""

    files: MarketplaceFiles
    workspace: Path
    config: Path

    @property
    def arguments(self) -> list[str]:
        """The arguments of the `run` that built the version."""
        tables = {"events": self.files.events, "items": self.files.items, "ads": self.files.ads, "config": self.config}
        named = [part for name, path in tables.items() for part in (f"--{name}", str(path))]
        return [*named, "--workspace", str(self.workspace)]

    @property
    def version(self) -> Path:
        """The folder of the published version."""
        return self.workspace / "versions" / json.loads((self.workspace / "current").read_text())["version"]


@pytest.fixture(scope="session")
def spark_for_commands() -> Any:
    """Return a Spark session that commands find and use, so that none starts and ends a session of its own."""
    return small_session()


def marketplace_files(folder: Path) -> MarketplaceFiles:
    """Return the files that `generate` has written to a folder."""
    names = ("events", "items", "ads", "test_events")
    return MarketplaceFiles(**{name: folder / f"{name}.parquet" for name in names})


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder that one process of the test run fills, and that all processes read."""
    folder = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder = folder / name
    with FileLock(f"{folder}.lock"):
        if not folder.with_suffix(".made").exists():
            make(folder)
            folder.with_suffix(".made").touch()
    return folder


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory, spark_for_commands: Any) -> Shop:
    """Return a shop that no test may change."""

    def shop_in(folder: Path) -> Shop:
        return Shop(marketplace_files(folder / "marketplace"), folder / "workspace", folder / "with-counters.toml")

    def make(folder: Path) -> None:
        generate(MarketplaceConfig.small(), folder / "marketplace")
        shop = shop_in(folder)
        shop.config.write_text("[graph]\ncounters = true\n")
        assert main(["run", *shop.arguments]) == 0

    return shop_in(made_once(tmp_path_factory, "shop", make))


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must be refused as wrong input; return its error message."""

    def run(*arguments: object) -> str:
        capsys.readouterr()
        assert main([str(a) for a in arguments]) == 2
        _, error, message = capsys.readouterr().err.partition(" ERROR ")
        assert error
        assert "Traceback" not in message
        return message

    return run


@contextmanager
def _serving(command: list[Any], cwd: Path) -> Iterator[str]:
    """Start a server, yield its URL once it listens, and stop it as a scheduler would."""
    process = subprocess.Popen([str(part) for part in command], cwd=cwd, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    lines = []
    try:
        for line in process.stderr:
            lines.append(line)
            if "listening on" in line:
                break
        else:
            raise AssertionError("".join(lines))
        yield line.rsplit(" ", 1)[1].strip()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) in (0, -signal.SIGTERM)


@pytest.fixture(scope="session")
def serving() -> Callable[..., AbstractContextManager[str]]:
    """Return a context manager that runs a server's command line in a folder and yields the server's URL."""
    return _serving
