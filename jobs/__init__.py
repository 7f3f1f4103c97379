"""The commands of LightSAGE: they run the other packages and keep versions in a workspace.

The modules that lie directly in `jobs` (config, errors, …) may be imported by every folder of `jobs`. Notebooks and
other programs import the names below, which docs/python.md describes. A name is imported only when it is first used,
so `import jobs` costs nothing and changes nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobs.python.artefacts import read_embeddings, read_graph
    from jobs.python.build import build, publish, train
    from jobs.python.measure import compare, evaluate, retrieve
    from jobs.workspace.workspace import Workspace

__all__ = [
    "Workspace",
    "build",
    "compare",
    "evaluate",
    "publish",
    "read_embeddings",
    "read_graph",
    "retrieve",
    "train",
]

_MODULES = {
    "Workspace": "jobs.workspace.workspace",
    **dict.fromkeys(("build", "publish", "train"), "jobs.python.build"),
    **dict.fromkeys(("compare", "evaluate", "retrieve"), "jobs.python.measure"),
    **dict.fromkeys(("read_embeddings", "read_graph"), "jobs.python.artefacts"),
}


def __getattr__(name: str) -> Any:
    """Import one of the names above when it is first used; see PEP 562."""
    if name not in _MODULES:
        raise AttributeError(f"module 'jobs' has no attribute {name!r}")
    from jobs.packages import check_rooms

    check_rooms()
    value = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
