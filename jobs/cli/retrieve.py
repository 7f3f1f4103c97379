"""`lightsage retrieve`: answers a table of queries, and writes the output only when it is complete."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from graph_build.config import InputConfig
from jobs.pipeline.query_files import stream_table
from jobs.progress import ProgressCallback, StageProgress
from jobs.workspace.atomic_files import check_output

if TYPE_CHECKING:
    from retrieval.config import RetrievalConfig


@dataclass(frozen=True)
class RetrieveOptions:
    """The options of `retrieve`: k results per query, and more.

    `at` is the time at which ads must be active, for queries that have no time of their own (None = the as-of time).
    `all_items` ranks the whole catalogue instead of the advertised items. `include_current` allows a query's last item
    as a result. `input` is the `[input]` section, by which queries in CSV are read.
    """

    k: int
    at: dt.datetime | None = None
    all_items: bool = False
    include_current: bool = False
    input: InputConfig | None = None


@dataclass(frozen=True)
class RetrieveCounts:
    """How many queries were read, how many rows were written, and how many queries got fallback results."""

    queries: int
    rows: int
    fallbacks: int


def retrieve(
    index: Path,
    queries: str,
    output: Path,
    options: RetrieveOptions,
    config: "RetrievalConfig",
    progress: StageProgress,
) -> RetrieveCounts:
    """Answer every query of a table.

    Args:
        index: the index folder of a version.
        queries: path of the queries: a parquet or CSV file, or a folder with files of one of these kinds.
        output: the Parquet file to write.
        options: what to retrieve for each query.
        config: the settings of retrieval.
        progress: shows the progress of the stage.

    Raises:
        OutputError: the output cannot be written; nothing was computed.
        TableError, QueriesError, RequestError: the queries do not follow their contract, or k is below 1; nothing
            was written.
    """
    from retrieval.index_folder import read_index
    from retrieval.search.batch import retrieve_tables
    from retrieval.search.query_table import QUERIES
    from retrieval.search.retriever import Retriever

    check_output(output, ".parquet")
    with progress.stage("retrieve") as report:
        total, tables = stream_table(queries, QUERIES.names, lists=("item_ids",), config=options.input)
        retriever = Retriever.of(read_index(index), config)
        reader = _QueryReader(queries, tables, total, report)
        answers = retrieve_tables(
            retriever,
            reader.tables(),
            options.k,
            at=options.at,
            all_items=options.all_items,
            include_current=options.include_current,
        )
        rows, fallbacks = _write_answers(answers, output)
    return RetrieveCounts(reader.read, rows, fallbacks)


class _QueryReader:
    """Checks the tables of queries one after the other, and counts the queries."""

    def __init__(self, path: str, tables: Iterator[pa.Table], total: int, report: ProgressCallback) -> None:
        self.path, self.total, self.report = path, total, report
        self.read = 0
        self._tables = tables

    def tables(self) -> Iterator[pa.Table]:
        from retrieval.search.query_table import conform_queries

        for table in self._tables:
            yield conform_queries(table, self.path, rows_before=self.read)
            self.read += len(table)
            self.report("answering queries", min(1.0, self.read / max(1, self.total)))


def _write_answers(answers: Iterator[pa.Table], output: Path) -> tuple[int, int]:
    """Write a scratch file beside the output, and rename it at the end; return the numbers of rows and fallbacks."""
    from retrieval.search.batch import SCHEMA

    output.parent.mkdir(parents=True, exist_ok=True)
    scratch = output.with_name(output.name + ".part")
    rows, fallbacks = 0, 0
    try:
        with pq.ParquetWriter(scratch, SCHEMA) as writer:
            for answer in answers:
                writer.write_table(answer)
                rows += len(answer)
                first = answer.filter(pc.equal(answer["rank"], 1))
                fallbacks += pc.sum(pc.equal(first["reason"], "fallback")).as_py() or 0
        scratch.replace(output)
    finally:
        scratch.unlink(missing_ok=True)
    return rows, fallbacks
