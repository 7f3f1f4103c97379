"""The re-ranker of a version is trained on the hold-out without a leak and served with the counters of all events."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from jobs.config import Config
from jobs.errors import ConfigError
from jobs.pipeline.evaluate import catalogue_of
from jobs.pipeline.index_stage import index_version
from jobs.pipeline.rerank_lists import retrieved_lists, shown_lists
from jobs.pipeline.rerank_stage import RerankerWeights, choose_reranker, read_counters
from jobs.pipeline.training import HoldoutChoice, choose
from retrieval.catalogue.edges import Edges
from retrieval.index_folder import read_index
from retrieval.ranking.embedding_ranker import EmbeddingRanker
from retrieval.search.request import RetrievalRequest
from retrieval.search.retriever import Retriever
from tests.jobs.conftest import SMALL_MODEL, ignore_progress

CONFIG = Config.model_validate(
    {"graph": {"counters": True}, "prerank": {"enabled": True, "max_lists": 400, "depth": 50}, "model": SMALL_MODEL}
)


@pytest.fixture(scope="module")
def choice(shop: Any) -> HoldoutChoice:
    return choose(shop.version / "graph", CONFIG, ignore_progress)


@pytest.fixture(scope="module")
def ranker(shop: Any, choice: HoldoutChoice) -> EmbeddingRanker:
    graph = shop.version / "graph"
    catalogue = catalogue_of(choice.embeddings, graph / "fit", choice.weights)
    edges = Edges.from_table(pq.read_table(graph / "fit" / "edges"), catalogue.item_ids, choice.weights)
    return EmbeddingRanker(catalogue, edges, CONFIG.retrieval)


def test_counters_equal_the_table_of_the_graph(shop: Any, ranker: EmbeddingRanker) -> None:
    graph, ids = shop.version / "graph", ranker.catalogue.item_ids
    table = pq.read_table(graph / "counters").to_pylist()
    items = {row["item_id"]: row for row in pq.read_table(graph / "tables" / "items").to_pylist()}
    for level in ("full", "fit"):
        for counter in read_counters(graph, ids, level):
            expected = {(row["src"], row["dst"]): row[level] for row in table if row["kind"] == counter.name}
            assert counter.count.sum() == pytest.approx(sum(expected.values()), rel=1e-4), counter.name
        by_name = {counter.name: counter for counter in read_counters(graph, ids, level)}
        counter = by_name["item>category"]
        expected = {(row["src"], row["dst"]): row[level] for row in table if row["kind"] == "item>category"}
        view = int(np.argmax(ranker.catalogue.events))
        assert counter.query_of is not None
        counts = dict(zip(*_line(counter, int(counter.query_of[view])), strict=True))
        for row, item in enumerate(ids.tolist()):
            category = items.get(item, {}).get("category")
            code = int(counter.item_of[row])
            assert (code < 0) == (category is None)
            if category is not None:
                assert counts.get(code, 0.0) == pytest.approx(expected.get((ids[view], category), 0.0), abs=1e-4)


def _line(counter: Any, entity: int) -> tuple[list[int], list[float]]:
    span = slice(counter.indptr[entity], counter.indptr[entity + 1])
    return counter.column[span].tolist(), counter.count[span].tolist()


def test_the_lists_follow_the_steps_of_the_held_out_sessions(shop: Any, ranker: EmbeddingRanker) -> None:
    everything = CONFIG.model_copy(update={"prerank": CONFIG.prerank.model_copy(update={"max_lists": 10**6})})
    lists = retrieved_lists(shop.version / "graph", ranker, everything)
    assert lists is not None
    table = pq.read_table(shop.version / "graph" / "sessions", filters=pc.field("held")).to_pylist()
    row_of = ranker.catalogue.row_of
    steps = [
        (row["session"], row_of[first], row_of[second], search)
        for row in table
        if row["kind"] == "browse"
        for first, second, search in zip(row["items"], row["items"][1:], row["searches"], strict=False)
    ]
    assert len(steps) == len(lists.target)
    actual, rows_after = [], {}
    for number, (context, session) in enumerate(zip(lists.contexts, lists.session.tolist(), strict=True)):
        rows, scores = lists.candidates(number)
        assert len(rows) == len(scores) == 50
        position, view = int(lists.target[number]), int(context.views[-1])
        actual.append((session, view, int(rows[position]) if position >= 0 else None, context.query))
        rows_after[view] = set(rows.tolist())
    expected = [
        (session, first, second if second in rows_after[first] else None, None if search is None else str(search))
        for session, first, second, search in steps
    ]
    pairs = list(zip(sorted(map(str, actual)), sorted(map(str, expected)), strict=True))
    # Lists after the same view also depend on the views before it, so a few targets are in one of them but not in all.
    assert sum(actual_step != expected_step for actual_step, expected_step in pairs) <= 0.1 * len(pairs)


def test_items_that_are_new_in_the_hold_out_are_left_out_of_its_lists(
    shop: Any, ranker: EmbeddingRanker, tmp_path: Path
) -> None:
    sessions = pq.read_table(shop.version / "graph" / "sessions")
    with_ghosts = [
        row
        | {
            "items": ["ghost", row["items"][0], "new", *row["items"][1:]],
            "times": [row["times"][0]] * 3 + row["times"][1:],
            "searches": [1, row["searches"][0], 2, *row["searches"][1:]],
        }
        for row in sessions.to_pylist()
    ]
    only_ghosts = with_ghosts[0] | {"items": ["ghost"] * 2, "times": [0] * 2, "searches": [None] * 2, "session": 1}
    (tmp_path / "sessions").mkdir()
    table = pa.Table.from_pylist([only_ghosts, *with_ghosts], sessions.schema)
    pq.write_table(table, tmp_path / "sessions" / "part.parquet")
    expected, actual = (retrieved_lists(graph, ranker, CONFIG) for graph in (shop.version / "graph", tmp_path))
    assert expected is not None
    assert actual is not None
    np.testing.assert_array_equal(actual.target, expected.target)
    np.testing.assert_array_equal(actual.ranked.rows, expected.ranked.rows)
    for context, expected_context in zip(actual.contexts, expected.contexts, strict=True):
        np.testing.assert_array_equal(context.views, expected_context.views)
        assert context.query == expected_context.query


def test_the_counters_for_training_leave_out_the_hold_out(shop: Any, ranker: EmbeddingRanker) -> None:
    graph = shop.version / "graph"
    pairs = pq.read_table(graph / "transitions", filters=~pc.field("held"))
    weight = np.where(np.array(pairs["kind"]) == "strong_click", 1 / pairs["steps"].to_numpy(), 1.0)
    fit = {counter.name: counter for counter in read_counters(graph, ranker.catalogue.item_ids, "fit")}
    assert fit["item>item"].count.sum() == pytest.approx(weight.sum(), rel=1e-4)
    full = {counter.name: counter for counter in read_counters(graph, ranker.catalogue.item_ids, "full")}
    assert full["item>item"].count.sum() > fit["item>item"].count.sum()


def test_counters_of_the_hold_out_itself_would_look_far_better(
    shop: Any, ranker: EmbeddingRanker, caplog: pytest.LogCaptureFixture
) -> None:
    """The leak that the test above rules out would show in the scores."""
    caplog.set_level(logging.INFO)
    graph = shop.version / "graph"
    for level in ("fit", "full"):
        counters = read_counters(graph, ranker.catalogue.item_ids, level)
        choose_reranker(graph, ranker, counters, CONFIG, ignore_progress)
    scores = [record.args for record in caplog.records if record.msg.startswith("pre-ranker:")]
    assert isinstance(scores[0], tuple)
    assert isinstance(scores[1], tuple)
    honest, leaking = float(scores[0][0]), float(scores[1][0])  # type: ignore[arg-type]
    assert leaking > 1.2 * honest


def test_without_counters_no_reranker_is_served(shop: Any, ranker: EmbeddingRanker) -> None:
    assert choose_reranker(shop.version / "graph", ranker, (), CONFIG, ignore_progress) is None


def test_a_counter_of_noise_gets_hardly_any_weight(shop: Any, ranker: EmbeddingRanker) -> None:
    graph, noise = shop.version / "graph", np.random.default_rng(0)
    counter = read_counters(graph, ranker.catalogue.item_ids, "fit")[0]
    useless = replace(counter, column=noise.permutation(counter.column))
    weights = choose_reranker(graph, ranker, (useless,), CONFIG, ignore_progress)
    assert weights is None or abs(weights.counters[counter.name][0]) < 0.1


def test_an_index_with_a_reranker_serves_it(shop: Any, choice: HoldoutChoice, tmp_path: Path) -> None:
    graph, as_of = shop.version / "graph", read_index(shop.version / "index").as_of
    learned = RerankerWeights(1.0, {"item>item": (0.5, -3.0, 2.0), "category>item": (0.1, -4.0, 1.5)})
    choice.embeddings.save(tmp_path / "embeddings")
    HoldoutChoice(choice.record, choice.weights, choice.embeddings, 0.0, learned).save(tmp_path)
    loaded = HoldoutChoice.load(tmp_path)
    assert loaded.reranker == replace(learned, counters={name: list(parts) for name, parts in learned.counters.items()})
    index_version(graph, tmp_path / "embeddings", tmp_path / "index", as_of, CONFIG, loaded, ignore_progress)
    weights = json.loads((tmp_path / "index" / "meta.json").read_text())["prerank"]
    assert weights == pytest.approx({"score": 1.0, "item>item": 0.5, "category>item": 0.1})
    retriever = Retriever.of(read_index(tmp_path / "index"))
    assert retriever.reranker is not None
    assert retriever.reranker.depth == 50
    full = {counter.name: counter for counter in read_counters(graph, retriever.catalogue.item_ids, "full")}
    for counter in retriever.reranker.counters:
        assert np.array_equal(counter.count, full[counter.name].count), "all events count in what is served"
    top = str(retriever.catalogue.item_ids[np.argmax(retriever.catalogue.events)])
    assert (
        retriever.retrieve(RetrievalRequest([top], 9)).scores
        != retriever.retrieve(RetrievalRequest([top], 9, stages=retriever.stages._replace(prerank=False))).scores
    )


def test_a_graph_without_counters_is_named(shop: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="built without counters"):
        read_counters(tmp_path, np.array(["a"], dtype=object), "fit")


def test_without_pairs_in_the_hold_out_no_reranker_is_served(
    shop: Any, ranker: EmbeddingRanker, tmp_path: Path
) -> None:
    graph = tmp_path / "graph"
    graph.mkdir()
    for name in ("counters", "tables"):
        (graph / name).symlink_to(shop.version / "graph" / name)
    sessions = pq.read_table(shop.version / "graph" / "sessions")
    (graph / "sessions").mkdir()
    none_held = sessions.set_column(sessions.column_names.index("held"), "held", pa.array([False] * len(sessions)))
    pq.write_table(none_held, graph / "sessions" / "part.parquet")
    counters = read_counters(graph, ranker.catalogue.item_ids, "fit")
    assert choose_reranker(graph, ranker, counters, CONFIG, ignore_progress) is None


def test_the_reranker_is_trained_on_impressions(shop: Any, ranker: EmbeddingRanker, tmp_path: Path) -> None:
    """In each request, the shown item with the most events was opened, so other weights are learned than from views."""
    graph = tmp_path / "graph"
    graph.mkdir()
    for name in ("counters", "tables", "sessions"):
        (graph / name).symlink_to(shop.version / "graph" / name)
    held_sessions = pq.read_table(graph / "sessions", filters=pc.field("held")).to_pylist()
    generator, ids, lists = np.random.default_rng(0), ranker.catalogue.item_ids, []
    for session in held_sessions:
        rows = generator.choice(len(ids), 20, replace=False)
        opened = ids[rows[np.argmax(ranker.catalogue.events[rows])]]
        time = session["times"][-1]  # after all views but the last
        lists.append({"session": session["session"], "time": time, "items": sorted(ids[rows]), "opened": [opened]})
    lists.append({"session": 1, "time": held_sessions[0]["start"], "items": ["ghost", "other"], "opened": ["ghost"]})
    lists.append(lists[0] | {"items": [*lists[0]["items"], "ghost"], "opened": ["ghost", *lists[0]["opened"]]})
    (graph / "impressions").mkdir()
    pq.write_table(pa.Table.from_pylist(lists), graph / "impressions" / "part.parquet")
    shown = shown_lists(graph, ranker, CONFIG)
    assert shown is not None
    after_a_view = [row for row in held_sessions if row["times"][0] < row["times"][-1]]
    assert len(shown.target) == len(after_a_view) + (held_sessions[0] in after_a_view)
    by_session = {row["session"]: row for row in lists[: len(held_sessions)]}
    for number in range(0, len(shown.target), 7):
        rows, scores = shown.candidates(number)
        row = by_session[int(shown.session[number])]
        assert sorted(ids[rows]) == row["items"]
        assert ids[rows[shown.target[number]]] == row["opened"][0]
        assert scores.tolist() == sorted(scores.tolist(), reverse=True)
        query = shown.contexts[number].views
        session = next(candidate for candidate in held_sessions if candidate["session"] == row["session"])
        before = [item for item, time in zip(session["items"], session["times"], strict=True) if time < row["time"]]
        assert ids[query].tolist() == before[-3:]
    counters = read_counters(graph, ids, "fit")
    learned = choose_reranker(graph, ranker, counters, CONFIG, ignore_progress)
    without_impressions = choose_reranker(shop.version / "graph", ranker, counters, CONFIG, ignore_progress)
    assert without_impressions is not None
    assert learned is None or learned.counters != without_impressions.counters
