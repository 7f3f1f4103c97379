"""Benchmarks reach into what they measure: that they still find it is seen on a small scale."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_a_small_load(tmp_path: Path) -> None:
    page = tmp_path / "load.md"
    command = [sys.executable, "benchmarks/load.py", "--rows", "50000", "--connections", "2", "--seconds", "1"]
    subprocess.run([*command, "--work", str(tmp_path), "--output", str(page)], cwd=ROOT, check=True, timeout=300)
    rows = [line for line in page.read_text().splitlines() if line.startswith("| ")]
    assert [row.split("|")[1].strip() for row in rows[1:]] == ["10%", "60%", "100%", "an empty app"]
    assert all(row.split("|")[7].strip() == "0" for row in rows[1:]), "all are answered with 200"
