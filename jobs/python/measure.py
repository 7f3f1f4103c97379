"""Retrieves ads with versions and measures versions, as `lightsage retrieve`, `evaluate` and `compare` do."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.config import Config
from jobs.python.arguments import Paths, Place, Settings, as_config, as_paths, as_workspace
from jobs.workspace.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

    from retrieval.search.retriever import Retriever

Question = Sequence[str]
"""The ids of the items that a shopper looked at, most recent last."""


def retrieve(
    workspace: Place,
    questions: "Question | Sequence[Question] | pa.Table",
    k: int = 10,
    *,
    version: str | None = None,
    config: Settings = None,
    **options: Any,
) -> "pa.Table":
    """Return the k best ads for each question.

    Args:
        workspace: where the version is stored.
        questions: one question, several, or a table with the columns of `lightsage retrieve --queries`.
        k: number of results per question.
        version: the version that answers; None = the published one.
        config: the settings of retrieval.
        **options: at (a datetime at which ads must be active; by default the version's as-of time), all_items (rank
            the whole catalogue), include_current (a question's last item may be a result).

    Returns:
        A table with the columns query_id, rank, item_id, ad_id, score and reason; the results of a question stand
        together, best first. The query_id is that of the table of questions, or else the number of the question from 0.

    Raises:
        QueriesError, RequestError: a question cannot be answered.
    """
    import pyarrow as pa

    from retrieval.search.batch import SCHEMA, retrieve_tables
    from retrieval.search.query_table import conform_queries

    if not isinstance(questions, pa.Table):
        several = [questions] if not questions or isinstance(questions[0], str) else list(questions)
        ids = pa.array(several, pa.list_(pa.string()))
        questions = pa.table({"query_id": [str(n) for n in range(len(several))], "item_ids": ids})
    retriever = _retriever(as_workspace(workspace), version, as_config(config))
    answers = list(retrieve_tables(retriever, conform_queries(questions), k, **options))
    return pa.concat_tables([SCHEMA.empty_table(), *answers])


def evaluate(
    workspace: Place, events: Paths, *, version: str | None = None, config: Settings = None, **options: Any
) -> dict[str, Any]:
    """Measure a version on events after its as-of time.

    Args:
        workspace: where the version is stored.
        events: files or folders of events.
        version: the version, published or not; None = the published one.
        config: the settings; `[input]` says how the events are read.
        **options: protocol ("item", "session" or "basket"), ads_only, include_current, allow_overlap and baselines, as
            in `lightsage evaluate`.

    Returns:
        The content of REPORT.json (docs/evaluate.md); its `rows` make a data frame.

    Raises:
        JobError, RetrievalError: the events are too early, do not fit the contract, or hold nothing to measure.
    """
    from jobs.pipeline.evaluate import EvaluateOptions, evaluate_version
    from jobs.progress import StageProgress

    settings = EvaluateOptions(**options)
    opened = as_workspace(workspace).open(version, verify=True, parts=settings.parts)
    with StageProgress().stage("evaluate") as report:
        return evaluate_version(opened.path, opened.name, as_paths(events), as_config(config), settings, report)


def compare(
    workspace: Place, first: str, second: str, events: Paths, *, config: Settings = None, **options: Any
) -> dict[str, Any]:
    """Measure how many more targets one version finds than another, on the same events, with intervals.

    Args:
        workspace: where both versions are stored.
        first: the name of one version, for example the published one.
        second: the name of the other, published or not.
        events: files or folders of events after both as-of times.
        config: the settings; `[input]` says how the events are read.
        **options: protocol, include_current, allow_overlap and frontier, as in `lightsage compare`.

    Returns:
        The content of the comparison's report (docs/evaluate.md); its `rows` make a data frame.

    Raises:
        JobError, RetrievalError: the events are too early, do not fit the contract, or hold nothing to measure.
    """
    from jobs.candidates.compare import compare_versions
    from jobs.candidates.contenders import CompareOptions, Contender
    from jobs.progress import StageProgress

    settings, full = CompareOptions(**options), as_config(config)
    with StageProgress().stage("compare") as report:
        contenders = [Contender.open(as_workspace(workspace), name, full) for name in (first, second)]
        return compare_versions(contenders, as_paths(events), full, settings, report)


def _retriever(workspace: Workspace, version: str | None, config: Config) -> "Retriever":
    index = workspace.open(version, verify=False, parts=("index",)).path / "index"
    return _retriever_of(index, config.retrieval.model_dump_json())


@lru_cache(maxsize=2)
def _retriever_of(index: Path, settings: str) -> "Retriever":
    """Return the retriever of an index folder, whose files never change; the last two retrievers stay in memory."""
    from retrieval.config import RetrievalConfig
    from retrieval.index_folder import read_index
    from retrieval.search.retriever import Retriever

    return Retriever.of(read_index(index), RetrievalConfig.model_validate_json(settings))
