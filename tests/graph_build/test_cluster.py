"""The graph build through spark-submit on a local standalone cluster, also when a worker dies during the build."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.graph_build.conftest import at, event, sorted_tables, write_events

pytestmark = pytest.mark.slow

ROOM = Path(__file__).resolve().parents[2] / "graph_build"


def environment() -> dict[str, str]:
    from graph_build.spark.java import java_home

    settings = {"PYSPARK_PYTHON": sys.executable, "SPARK_NO_DAEMONIZE": "1", "SPARK_LOCAL_IP": "127.0.0.1"}
    return os.environ | settings | {"JAVA_HOME": str(java_home())}


def spark_class(*arguments: str) -> subprocess.Popen[str]:
    import pyspark

    command = [str(Path(pyspark.__file__).parent / "bin" / "spark-class"), *arguments]
    return subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for(process: "subprocess.Popen[str]", pattern: str) -> str:
    """Read the log up to the first line that matches the pattern; return the text of the pattern's group."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if match := re.search(pattern, line):
            return match[1]
    raise AssertionError("".join(lines[-20:]))


def kill(process: "subprocess.Popen[str]") -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[Any]]]:
    """Yield the master's address and two workers of one core and one executor each."""
    tmp_path = tmp_path_factory.mktemp("cluster")
    deploy = "org.apache.spark.deploy"
    running = [spark_class(f"{deploy}.master.Master", "--host", "127.0.0.1", "--port", "0", "--webui-port", "0")]
    try:
        url = wait_for(running[0], r"Starting Spark master at (spark://\S+)")
        for n in range(2):
            folder = str(tmp_path / f"worker-{n}")
            args = ["--cores", "1", "--memory", "1g", "--work-dir", folder, "--webui-port", "0", "--host", "127.0.0.1"]
            running.append(spark_class(f"{deploy}.worker.Worker", *args, url))
            wait_for(running[-1], r"Successfully (registered) with master")
        yield url, running[1:]
    finally:
        for process in running:
            if process.poll() is None:
                kill(process)


def zip_graph_build(target: Path) -> None:
    """Zip the package as docs/cluster.md says: all files, with templates and settings, but no compiled files."""
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(ROOM.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path, path.relative_to(ROOM.parent))


def submit(
    url: str, tmp_path: Path, log: str, out: Path, *options: str, **spark_settings: str
) -> "subprocess.Popen[str]":
    import pyspark

    archive = tmp_path / "rooms.zip"
    zip_graph_build(archive)
    # The script is copied out of the repository, so that Python can import its modules only from the zip.
    job = Path(shutil.copy(ROOM / "__main__.py", tmp_path / "job.py"))
    settings = {
        "spark.executor.memory": "700m",
        "spark.driver.memory": "1g",
        "spark.task.maxFailures": "8",
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "4",
    } | {name.replace("_", "."): value for name, value in spark_settings.items()}
    command = [str(Path(pyspark.__file__).parent / "bin" / "spark-submit"), "--master", url, "--py-files", str(archive)]
    for name, value in settings.items():
        command += ["--conf", f"{name}={value}"]
    command += [str(job), "--events", log, "--out", str(out), *options]
    return subprocess.Popen(
        command, env=environment(), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_the_driver_collects_nothing_that_grows_with_the_log(cluster: Any, tmp_path: Path) -> None:
    """Build from 400,000 events of 100,000 items; no job may bring more than 1 MiB to a driver of 512 MiB."""
    import numpy as np
    import pyarrow as pa

    rng, n, items = np.random.default_rng(0), 400_000, 100_000
    session = np.sort(rng.integers(0, n // 4, n))
    time = 1_772_409_600_000_000 + session * 400_000 + np.arange(n) % 1000 * 1_000_000
    item = (session * 7 + rng.integers(0, 20, n) ** 2) % items
    columns = {
        "session_id": pa.array(session).cast(pa.string()),
        "timestamp": pa.array(time).cast(pa.timestamp("us", "UTC")),
        "event_type": pa.array(["view", "click"]).take(pa.array(rng.integers(0, 2, n))),
        "item_id": pa.array(item).cast(pa.string()),
        "query": pa.array(np.where(rng.random(n) < 0.2, "q", None), pa.string()),
    }
    log = tmp_path / "log.parquet"
    pq.write_table(pa.table(columns), log)
    config = tmp_path / "shop.toml"
    # The report brings graphs up to these sizes to the driver. The sizes are fixed and do not grow with the log.
    config.write_text("[graph.report]\nmax_component_edges = 0\nmax_networkx_edges = 0\n")
    limits = {"spark_driver_memory": "512m", "spark_driver_maxResultSize": "1m"}
    # Spark sends tables below this size (10 MB by default) through the driver to every worker. The size is fixed, too.
    limits["spark_sql_autoBroadcastJoinThreshold"] = "500k"
    job = submit(cluster[0], tmp_path, str(log), tmp_path / "out", "--config", str(config), **limits)
    output, errors = job.communicate(timeout=600)
    assert job.returncode == 0, output[-3000:] + errors[-3000:]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["nodes"] > 95_000
    assert sum(summary["edges"].values()) > 500_000


@pytest.mark.thorough
def test_executors_read_lists_in_lines_of_json_and_build_the_graph_of_the_same_events_in_parquet(
    cluster: Any, built: Any, tmp_path: Path
) -> None:
    rng = random.Random(6)
    visits = [
        [event(f"s{s}", at(s + i, day=s % 2), "view", f"i{rng.randrange(20)}") for i in range(rng.randrange(1, 6))]
        for s in range(150)
    ]
    log = tmp_path / "log"
    log.mkdir()
    for n in range(2):
        records = [{"visit": visit[0]["session_id"], "items": visit} for visit in visits[n * 75 :][:75]]
        text = "".join(json.dumps(record, default=str) + "\n" for record in records)
        (log / f"{n}.json").write_text(text)
    config = tmp_path / "shop.toml"
    config.write_text(
        '[input.events]\nexplode = "items"\n[input.events.columns]\nsession_id = "visit"\n'
        'timestamp = "items.timestamp"\nevent_type = "items.event_type"\nitem_id = "items.item_id"\n'
    )
    job = submit(cluster[0], tmp_path, f"{log}/*.json", tmp_path / "out", "--config", str(config))
    output, errors = job.communicate(timeout=600)
    assert job.returncode == 0, output[-3000:] + errors[-3000:]
    _, built_locally = built([row for visit in visits for row in visit])
    assert sorted_tables(tmp_path / "out") == sorted_tables(built_locally)


def test_a_cluster_builds_the_same_graph_even_when_a_worker_dies(cluster: Any, built: Any, tmp_path: Path) -> None:
    rng = random.Random(5)
    rows = [
        event(
            f"s{s}",
            at(s % 1400 + i, day=s % 3),
            rng.choice(["view", "click"]),
            f"i{rng.randrange(60)}",
            query="q" if i == 2 else None,
        )
        for s in range(800)
        for i in range(rng.randrange(2, 7))
    ]
    log = write_events(tmp_path / "log.parquet", rows)
    url, workers = cluster
    _, built_locally = built(log)
    for name, worker_dies in (("all live", False), ("one dies", True)):
        out = tmp_path / name
        job = submit(url, tmp_path, log, out)
        if worker_dies:
            while job.poll() is None and not list(out.glob("_staging/*")):
                time.sleep(0.2)
            assert job.poll() is None, job.communicate()
            kill(workers[0])
        output, errors = job.communicate(timeout=600)
        assert job.returncode == 0, output[-3000:] + errors[-3000:]
        assert json.loads((out / "summary.json").read_text())["events"]["read"] == len(rows), name
        assert sorted_tables(out) == sorted_tables(built_locally), name
