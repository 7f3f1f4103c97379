"""The benchmarks still fit the code that they measure."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = [
    *(path for path in sorted((ROOT / "benchmarks").glob("*.py")) if not path.name.startswith("_")),
    *(ROOT / "benchmarks" / "quality" / name for name in ("__main__.py", "ablation.py", "training.py")),
]


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT / "benchmarks")))
def test_every_benchmark_shows_its_help(script: Path) -> None:
    """A benchmark imports what it measures before it parses its options: if a function was renamed, this test fails."""
    process = subprocess.run([sys.executable, script, "--help"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith("usage: ")


@pytest.mark.slow
def test_the_load_benchmark_gets_only_successful_answers(tmp_path: Path) -> None:
    page = tmp_path / "load.md"
    command = [sys.executable, "benchmarks/load.py", "--rows", "50000", "--connections", "2", "--seconds", "1"]
    subprocess.run([*command, "--work", str(tmp_path), "--output", str(page)], cwd=ROOT, check=True, timeout=300)
    rows = [line for line in page.read_text().splitlines() if line.startswith("| ")]
    assert [row.split("|")[1].strip() for row in rows[1:]] == ["10%", "60%", "100%", "an empty app"]
    assert all(row.split("|")[7].strip() == "0" for row in rows[1:]), "all are answered with 200"
