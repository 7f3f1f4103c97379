"""The notebook of the docs runs from its first cell to its last, and is committed without outputs."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

from jobs import Workspace
from tests.source_tree import ROOT

NOTEBOOK = ROOT / "docs" / "walkthrough.ipynb"


def cells(kind: str) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == kind]


def test_the_notebook_has_no_outputs_and_its_links_lead_somewhere() -> None:
    for cell in cells("code"):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
        ast.parse("".join(cell["source"]))
    text = "".join("".join(cell["source"]) for cell in cells("markdown"))
    links = re.findall(r"\]\((\w+\.md)\)", text)
    assert links
    assert all((ROOT / "docs" / link).exists() for link in links)


@pytest.mark.slow
@pytest.mark.thorough
def test_the_notebook_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spark_for_commands: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run each cell, and keep the value of its last line, which a notebook would show."""
    monkeypatch.setenv("WALKTHROUGH", str(tmp_path))
    names: dict[str, Any] = {}
    values = []
    for cell in cells("code"):
        body = ast.parse("".join(cell["source"])).body
        last = body.pop() if isinstance(body[-1], ast.Expr) else None
        exec(compile(ast.Module(body, []), NOTEBOOK.name, "exec"), names)
        if isinstance(last, ast.Expr):
            values.append(eval(compile(ast.Expression(last.value), NOTEBOOK.name, "eval"), names))
    shop = Workspace(tmp_path / "shop")
    assert len(shop.versions()) == 2
    assert shop.unpublished() == []
    answers, is_published = (next(value for value in values if isinstance(value, kind)) for kind in (list, bool))
    assert answers
    assert is_published
    assert values[-1].num_nodes == len(names["embeddings"].item_ids)
    assert "ads HR@100" in capsys.readouterr().out
