"""Serving and evaluation import without FAISS, torch, Spark and FastAPI, and configuration even without numpy."""

import subprocess
import sys

import pytest

CODE = """
import sys
for name in ("faiss", "torch", "pyspark", "fastapi"):
    sys.modules[name] = None
import importlib
for name in sys.argv[1:]:
    importlib.import_module("retrieval." + name)
"""


@pytest.mark.parametrize(
    "names",
    [
        ["config", "index_folder", "search.batch", "ranking.embedding_ranker"],
        ["evaluation.metrics", "evaluation.baselines", "evaluation.protocols", "evaluation.sessions"],
    ],
    ids=["serving", "measuring"],
)
def test_measuring_needs_neither_faiss_nor_torch_nor_spark(names: list[str]) -> None:
    subprocess.run([sys.executable, "-c", CODE, *names], check=True)


def test_configuration_does_not_need_numpy() -> None:
    code = "import sys; sys.modules['numpy'] = None; import retrieval.config, retrieval.errors"
    subprocess.run([sys.executable, "-c", code], check=True)
