"""`lightsage retrieve`: a table of queries in, a table of ads out, written whole or not at all."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.pipeline.test_events import stream_table
from jobs.progress import StageProgress
from jobs.workspace.atomic_files import check_output

if TYPE_CHECKING:
    from retrieval.config import RetrievalConfig


@dataclass(frozen=True)
class Written:
    """What went into the output."""

    queries: int
    rows: int
    fallbacks: int


def retrieve(
    index: Path,
    queries: str,
    output: Path,
    *,
    k: int,
    at: dt.datetime | None,
    all_items: bool,
    include_current: bool,
    config: "RetrievalConfig",
    progress: StageProgress,
) -> Written:
    """Answer every query of a parquet table.

    Raises:
        OutputError: the output cannot be written; nothing was done.
        TableError, QueriesError, RequestError: the queries do not fit their contract; nothing is written.
    """
    from retrieval.index_folder import read_index
    from retrieval.search.batch import SCHEMA, retrieve_tables
    from retrieval.search.query_table import conform_queries
    from retrieval.search.retriever import Retriever

    check_output(output, ".parquet")
    with progress.stage("retrieve") as report:
        total, tables = stream_table(queries)
        retriever = Retriever.of(read_index(index), config)
        read = 0

        def checked() -> Iterator[pa.Table]:
            nonlocal read
            for table in tables:
                yield conform_queries(table, queries, before=read)
                read += len(table)
                report("queries", min(1.0, read / max(1, total)))

        answers = retrieve_tables(retriever, checked(), k, at=at, all_items=all_items, include_current=include_current)
        output.parent.mkdir(parents=True, exist_ok=True)
        scratch = output.with_name(output.name + ".part")
        rows, fallen = 0, 0
        try:
            with pq.ParquetWriter(scratch, SCHEMA) as writer:
                for answer in answers:
                    writer.write_table(answer)
                    rows += len(answer)
                    first = answer.filter(pc.equal(answer["rank"], 1))
                    fallen += pc.sum(pc.equal(first["reason"], "fallback")).as_py() or 0
            scratch.replace(output)
        finally:
            scratch.unlink(missing_ok=True)
    return Written(read, rows, fallen)
