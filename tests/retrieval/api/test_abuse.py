"""The server keeps the benchmark's limits, with some slack, under floods and slow, endless or unreading clients."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
ABUSES = (
    *("16 connections", "a connection for each request", "64 clients that send no body"),
    *("64 clients that read no page", "64 clients that read no ads", "an endless head", "endless headers"),
    *("endless trailers", "endless chunk extensions", "requests sent byte by byte", "2,000 idle connections"),
    *("caps that cannot be filled", "completions of 250 words", "batches of 1,000 changes of campaigns", "SIGTERM"),
)


@pytest.mark.slow
@pytest.mark.thorough  # it compares times, which a browser or Spark in the other process can spoil
def test_no_abuse_holds_up_a_well_behaved_client_or_fills_the_memory(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/abuse.py", "--work", str(tmp_path), "--rows", "5000", "--seconds", "0.7"]
    for name in ABUSES:
        command += ["--only", name]
    # Other tests may run at the same time, so the limits on times are four times as high.
    process = subprocess.run([*command, "--slack", "4"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr[-5000:]
    rows = [line for line in process.stdout.splitlines() if line.startswith(("| ", "|-"))]
    assert sum(any(line.startswith(f"| {name}") for name in ABUSES) for line in rows) == len(ABUSES)
