"""A small marketplace that was run once, end to end, through the command line."""

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from jobs.cli import main
from jobs.marketplace import MarketplaceConfig, MarketplaceFiles, generate

SMALL_MODEL = {"dim": 16, "members": 1, "train": {"max_epochs": 0.5, "threads": 1}}


def quiet(_: str, __: float) -> None:
    """A report to nobody."""


@dataclass(frozen=True)
class Shop:
    files: MarketplaceFiles
    workspace: Path
    config: Path

    @property
    def arguments(self) -> list[str]:
        """Those of the `run` that built it."""
        tables = {"events": self.files.events, "items": self.files.items, "ads": self.files.ads, "config": self.config}
        named = [part for name, path in tables.items() for part in (f"--{name}", str(path))]
        return [*named, "--workspace", str(self.workspace)]

    @property
    def version(self) -> Path:
        return self.workspace / "versions" / json.loads((self.workspace / "current").read_text())["version"]


@pytest.fixture(scope="session")
def spark_for_commands() -> Any:
    """Commands find this session instead of starting, and ending, one each."""
    from graph_build.spark import spark_session

    return spark_session(master="local[2]", driver_memory="1g", shuffle_partitions=2)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory, spark_for_commands: Any) -> Shop:
    folder = tmp_path_factory.mktemp("shop")
    files = generate(MarketplaceConfig.small(), folder / "marketplace")
    config = folder / "with-counters.toml"
    config.write_text("[graph]\ncounters = true\n")
    shop = Shop(files, folder / "workspace", config)
    assert main(["run", *shop.arguments]) == 0
    return shop


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must be refused as wrong input; returns what it said."""

    def run(*arguments: object) -> str:
        capsys.readouterr()
        assert main([str(a) for a in arguments]) == 2
        _, found, said = capsys.readouterr().err.partition(" ERROR ")
        assert found
        assert "Traceback" not in said
        return said

    return run


@contextmanager
def _serving(command: list[Any], cwd: Path) -> Iterator[str]:
    """Start a server, yield its URL once it listens, stop it as a scheduler would."""
    process = subprocess.Popen([str(part) for part in command], cwd=cwd, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = []
    try:
        for line in process.stderr:
            said.append(line)
            if "listening on" in line:
                break
        else:
            raise AssertionError("".join(said))
        yield line.rsplit(" ", 1)[1].strip()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) in (0, -signal.SIGTERM)


@pytest.fixture(scope="session")
def serving() -> Callable[..., AbstractContextManager[str]]:
    return _serving
