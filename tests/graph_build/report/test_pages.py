"""Templates load from inside a zip and without Spark, and explain terms in the words of the glossary."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from graph_build.report.terms import GRAPH_TERMS
from jobs.nightly.report import NIGHT_TERMS
from jobs.pipeline.quality_page import QUALITY_TERMS
from tests.source_tree import ROOT

RENDER_FROM_ZIP = """
import datetime as dt, sys

class NoSpark:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("pyspark", "py4j"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, NoSpark())
sys.path.insert(0, sys.argv[1])
from graph_build.report import html
from graph_build.report.statistics import GraphStatistics
from graph_build.summary import GraphSummary

assert html.__file__.startswith(sys.argv[1]), html.__file__
events = {"read": 0, "valid": 0, "duplicates": 0, "opened_views": 0, "left_out": 0, "by_type": {}}
counts = {"nodes": 1234, "tail": 0, "sessions": 0, "holdout_sessions": 0}
summary = GraphSummary(
    as_of=dt.datetime(2026, 1, 1), events=events, quarantined={}, edges={"swing": 2}, transitions={}, capped={},
    ads={"total": 0}, **counts
)
print(html.render_report(summary, GraphStatistics(0, 1.0, {"swing": [(1, 2)]}, {}, [], [])))
"""


def test_a_report_is_rendered_from_a_zip_and_without_spark(tmp_path: Path) -> None:
    archive = tmp_path / "rooms.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        for path in sorted((ROOT / "graph_build").rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                zipped.write(path, path.relative_to(ROOT))
    command = [sys.executable, "-c", RENDER_FROM_ZIP, str(archive)]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert "<b>1,234</b><span>items</span>" in process.stdout
    assert "<polyline" in process.stdout


def glossary() -> dict[str, str]:
    """Return the meaning of each term of docs/glossary.md, without markup."""
    text = (ROOT / "docs" / "glossary.md").read_text()
    text = re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", text).replace("`", "").replace("*", "")
    return dict(re.findall(r"^\| (.+?) \| (.+?) \|$", text, re.MULTILINE))


@pytest.mark.parametrize("terms", [GRAPH_TERMS, NIGHT_TERMS, QUALITY_TERMS], ids=["graph", "night", "quality"])
def test_reports_explain_terms_in_the_words_of_the_glossary(terms: dict[str, str]) -> None:
    meanings = glossary()
    assert {name: meanings.get(name) for name in terms} == terms
