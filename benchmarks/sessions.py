"""The session encoder against the weighted mean and VMIS-kNN, sparse against full attention, and ONNX against torch.

    python benchmarks/sessions.py quality --graph NAME=GRAPH --test EVENTS [--seeds 1] [--threads 2] [--output TABLE.md]
    python benchmarks/sessions.py histories --graph NAME=GRAPH --train EVENTS --test EVENTS [--threads 2] [--output …]
    python benchmarks/sessions.py speed [--output TABLE.md]

GRAPH is a folder built by `benchmarks/quality` or `lightsage run` from the training events. *quality*: the next item
after every prefix of a test session must be found; the next item may be the one on screen. The settings of VMIS-kNN are
chosen on the hold-out. *histories*: the purchases of a user form one session, and the user's purchases in the test must
be found.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from _page import print_progress
from _parts import AddLine, Part, parts_parser, run_part

from graph_build.config import InputConfig
from jobs.config import Config
from jobs.pipeline.evaluate import catalogue_of, counting_peers
from jobs.pipeline.evaluation_events import read_events, sessions_of
from jobs.pipeline.holdout import held_sessions
from jobs.pipeline.session_stage import blended_encoder, browsing_sessions, train_encoder
from jobs.pipeline.training import HoldoutChoice, choose, fit_everything
from model.config import SessionConfig
from model.embeddings import Embeddings
from model.ragged import offsets_from_lengths
from model.sessions.encoder import SessionEncoder as Network
from model.sessions.export import to_onnx
from model.sessions.training import SessionRows, TrainedSessions, train_sessions
from retrieval.catalogue.edges import Edges
from retrieval.catalogue.items import Catalogue, lookup
from retrieval.evaluation.baselines import TrainingSessions
from retrieval.evaluation.pairs import Pairs, session_pairs
from retrieval.evaluation.protocols import Ranker, choice_score, evaluate
from retrieval.evaluation.sessions import sessions_from_graph
from retrieval.evaluation.vmis_knn import SessionKNN
from retrieval.queries import Queries
from retrieval.ranking.embedding_ranker import EmbeddingRanker
from retrieval.ranking.session_encoder import SessionEncoder

CELLS = (("all", "HR", 20), ("all", "MRR", 20), ("all", "HR", 100), ("tail", "HR", 100))
VMIS_SAMPLES, VMIS_NEIGHBOURS = (500, 1000, 2500), (100, 500, 1500)
STREC = (0, 20, 20, 5, 5, 5, 5, 1)
"""Positions that attend in each of STRec's eight layers, for sessions of 50 items (0 = all)."""


def main() -> int:
    """Run one part."""
    parser = parts_parser(__doc__, PARTS)
    parser.add_argument("--graph", metavar="NAME=GRAPH")
    parser.add_argument("--targets", type=int, default=200_000, help="histories: number of training targets, sampled")
    parser.add_argument("--session", default="", help="settings of [session], e.g. 'max_epochs=5 positions=[0,0,1]'")
    return run_part(parser.parse_args(), PARTS)


def settings(options: argparse.Namespace, seed: int) -> Config:
    """The default settings, with those of the command line."""
    pairs = dict(part.split("=", 1) for part in options.session.split())
    session = {name: json.loads(value) for name, value in pairs.items()}
    learning = {"seed": seed, "threads": options.threads}
    return Config.model_validate({"model": {"train": learning}, "session": {"enabled": True} | learning | session})


def quality(options: argparse.Namespace, add_line: AddLine) -> None:
    """Measure the quality on the browsing sessions of a shop."""
    name, _, root = options.graph.partition("=")
    graph = Path(root)
    test = sessions_of(read_events([str(options.test)], InputConfig()))
    add_line(f"## {name}: the next item of a session")
    add_line("")
    add_line("| model | HR@20 | MRR@20 | HR@100 | tail HR@100 | wall s of training |")
    add_line("|---|---:|---:|---:|---:|---:|")
    rows: dict[str, list[list[float]]] = {}
    for seed in range(options.seeds):
        config = settings(options, seed)
        began = time.perf_counter()
        choice = choose(graph, config, lambda *_: None)
        embeddings = fit_everything(graph, config, choice.record.share, lambda *_: None).embeddings
        base_time = time.perf_counter() - began
        began = time.perf_counter()
        learned = train_encoder(browsing_sessions(graph), embeddings, config, lambda *_: None)
        encoder = blended_encoder(learned, choice.encoder_share or 1.0)
        encoder_time = time.perf_counter() - began
        catalogue = catalogue_of(embeddings, graph / "full", choice.weights)
        edges = Edges.from_table(pq.read_table(graph / "full" / "edges"), catalogue.item_ids, choice.weights)
        pairs = session_pairs(test, catalogue.item_ids, catalogue.events, include_current=True)
        latest = config.retrieval.model_copy(update={"recent_items": 1})
        models: dict[str, tuple[Ranker, float]] = {
            "LightSAGE, the last item": (EmbeddingRanker(catalogue, edges, latest), base_time),
            "LightSAGE, weighted mean": (EmbeddingRanker(catalogue, edges, config.retrieval), base_time),
            f"LightSAGE, session encoder{'' if choice.encoder_share else ' (not chosen on the hold-out)'}": (
                EmbeddingRanker(catalogue, edges, config.retrieval, encoder),
                base_time + encoder_time,
            ),
        }
        if seed == 0:
            models |= {peer: (ranker, 0.0) for peer, ranker in peers(graph, catalogue, edges, choice).items()}
        for model, (ranker, wall) in models.items():
            rows.setdefault(model, []).append([*cells(ranker, pairs), wall])
            print_progress(f"{model} {rows[model][-1]}")
    for model, runs in rows.items():
        *mean, wall = np.mean(runs, axis=0)
        spread = np.std(runs, axis=0)[: len(mean)]
        cells_text = " | ".join(f"{m:.3f}" + (f" ± {s:.3f}" if s else "") for m, s in zip(mean, spread, strict=True))
        add_line(f"| {model} | {cells_text} | {f'{wall:.0f}' if wall else ''} |")
    add_line("")
    add_line(f"{len(pairs):,} prefixes, {options.seeds} seed{'s' if options.seeds > 1 else ''} per trained model.")


def peers(graph: Path, catalogue: Catalogue, edges: Edges, choice: HoldoutChoice) -> dict[str, Ranker]:
    """The baselines, and VMIS-kNN with the settings that are best on the hold-out."""
    rankers = {name: ranker for name, ranker in counting_peers(graph, catalogue, edges).items() if name != "popularity"}
    fit = catalogue_of(choice.embeddings, graph / "fit", choice.weights)
    held = sessions_from_graph(held_sessions(graph, Config()))
    pairs = session_pairs(held, fit.item_ids, fit.events)
    early = training_sessions(graph, fit, held=False)
    scores = {
        (m, k): choice_score(SessionKNN(early, m, k), pairs, "session").with_first_places
        for m, k in product(VMIS_SAMPLES, VMIS_NEIGHBOURS)
        if k <= m
    }
    m, k = max(scores, key=lambda setting: scores[setting])
    print_progress(f"VMIS-kNN on the hold-out {scores}")
    return rankers | {f"VMIS-kNN, m = {m}, k = {k}": SessionKNN(training_sessions(graph, catalogue), m, k)}


def training_sessions(graph: Path, catalogue: Catalogue, *, held: bool = True) -> TrainingSessions:
    """The training sessions of a graph, sorted by start; `held` includes those of the hold-out."""
    row_filter = None if held else ~pc.field("held")
    table = pq.read_table(
        graph / "sessions", columns=["session", "start", "kind", "items", "times"], filters=row_filter
    )
    sessions = sessions_from_graph(table.sort_by("start"))
    return TrainingSessions(lookup(catalogue.item_ids, sessions.item_ids)[0], sessions.offsets, catalogue.n_rows)


def cells(ranker: Ranker, pairs: Pairs) -> list[float]:
    """The CELLS of a model."""
    rows = evaluate("", ranker, pairs, protocol="session", samples=1)
    values = {(row["slice"], row["metric"], row["k"]): row["value"] for row in rows}
    return [float(values[cell] or 0.0) for cell in CELLS]


def histories(options: argparse.Namespace, add_line: AddLine) -> None:
    """Compare sparse with full attention over the purchases of users, with four layers."""
    name, _, root = options.graph.partition("=")
    graph = Path(root)
    config = settings(options, 0)
    choice = choose(graph, config.model_copy(update={"session": SessionConfig()}), lambda *_: None)
    embeddings = fit_everything(graph, config, choice.record.share, lambda *_: None).embeddings
    ids = np.array(embeddings.item_ids.to_pylist(), dtype=object)
    train, test = (purchases(path, ids) for path in (options.train, options.test))
    sessions, ends = test_histories(train, test)
    add_line(f"## {name}: users' purchases, {config.session.length if 'length' in options.session else 50} at most")
    add_line("")
    add_line("| attention from | HR@20 | HR@100 | of full | wall s of training |")
    add_line("|---|---:|---:|---:|---:|")
    full_attention = 0.0
    for label, positions in (("all, four layers", (0, 0, 0, 1)), ("50, 20, 5, 1", (0, 20, 5, 1))):
        session = config.session.model_copy(update={"length": 50, "positions": positions, "max_epochs": 1.0})
        began = time.perf_counter()
        trained = train_sessions(last_purchases(train, options.targets), embeddings, session)
        wall = time.perf_counter() - began
        hits = next_items(trained, sessions, ends, embeddings, session.length)
        full_attention = full_attention or float(np.mean(hits))
        add_line(f"| {label} | {hits[0]:.4f} | {hits[1]:.4f} | {np.mean(hits) / full_attention:.3f} | {wall:.0f} |")


def purchases(path: Path, ids: np.ndarray[Any, Any]) -> dict[str, list[int]]:
    """Return for each user the rows of the purchased items, in order."""
    events = pq.read_table(path, columns=["user_id", "item_id", "timestamp", "session_id"])
    events = events.sort_by([("timestamp", "ascending"), ("session_id", "ascending")])
    rows, known = lookup(ids, events["item_id"].combine_chunks().cast(pa.string()))
    histories: dict[str, list[int]] = {}
    for user, row, is_known in zip(events["user_id"].to_pylist(), rows.tolist(), known.tolist(), strict=True):
        if is_known:
            histories.setdefault(str(user), []).append(row)
    return histories


def last_purchases(histories: dict[str, list[int]], targets: int) -> SessionRows:
    """The last purchases of all users, with about this many targets in total."""
    per_user = max(2, targets // len(histories))
    lists = [rows[-per_user:] for rows in histories.values()]
    return SessionRows(np.concatenate(lists), offsets_from_lengths(np.array([len(one) for one in lists])))


def test_histories(train: dict[str, list[int]], test: dict[str, list[int]]) -> tuple[SessionRows, np.ndarray[Any, Any]]:
    """The histories of test users, followed by their test purchases, and positions of a sample of these purchases."""
    users = [user for user in test if user in train]
    lists = [train[user][-200:] + test[user] for user in users]
    offsets = offsets_from_lengths(np.array([len(one) for one in lists]))
    ends = [offsets[n] + min(200, len(train[user])) + np.arange(len(test[user])) for n, user in enumerate(users)]
    positions = np.concatenate(ends)
    sample = np.random.default_rng(0).choice(positions, min(20_000, len(positions)), replace=False)
    return SessionRows(np.concatenate(lists), offsets), np.sort(sample)


def next_items(
    trained: TrainedSessions, sessions: SessionRows, ends: np.ndarray[Any, Any], embeddings: Embeddings, length: int
) -> tuple[float, float]:
    """HR@20 and HR@100 of the items at the positions `ends`."""
    from model.sessions.training import encode_prefixes

    item = torch.from_numpy(np.asarray(embeddings.item))
    vectors = torch.from_numpy(encode_prefixes(trained, sessions, ends, length))
    target, hits = torch.from_numpy(sessions.rows[ends]), []
    for a in range(0, len(ends), 512):
        score = vectors[a : a + 512] @ item.T
        target_score = score.gather(1, target[a : a + 512, None])
        rank = (score > target_score).sum(dim=1)
        hits.append(torch.stack([rank < 20, rank < 100], dim=1).float())
    mean = torch.cat(hits).mean(dim=0)
    return float(mean[0]), float(mean[1])


def speed(options: argparse.Namespace, add_line: AddLine) -> None:
    """Measure the speed on one thread; all rows come from one run."""
    torch.set_num_threads(1)
    add_line("## Speed, one thread")
    add_line("")
    add_line("Eight layers, sessions of 50 random items, 192 dimensions:")
    add_line("")
    add_line("| sessions at once | full ms | STRec's positions ms | full / sparse |")
    add_line("|---:|---:|---:|---:|")
    full, sparse = (network(50, positions) for positions in ((0,) * 7 + (1,), STREC))
    for batch in (1, 64):
        both = [timed(lambda n=n, batch=batch: forward(n, batch, 50)) for n in (full, sparse)]
        add_line(f"| {batch} | {both[0]:.2f} | {both[1]:.2f} | {both[0] / both[1]:.2f} |")
    add_line("")
    add_line("The default encoder, sessions of 5 items, torch and onnxruntime:")
    add_line("")
    add_line("| sessions at once | torch ms | ONNX ms | torch / ONNX | largest difference |")
    add_line("|---:|---:|---:|---:|---:|")
    config = SessionConfig()
    default = network(config.length, config.positions)
    inputs = np.random.default_rng(0).standard_normal((1000, 192)).astype(np.float32)
    served = SessionEncoder(to_onnx(default), inputs, config.length)
    table = torch.from_numpy(inputs)
    for batch in (1, 64):
        rows = np.random.default_rng(1).integers(0, 1000, 5 * batch)
        queries = Queries(rows, np.arange(batch + 1) * 5)
        items = torch.from_numpy(rows.reshape(batch, 5))
        present = torch.ones(batch, 5, dtype=torch.bool)

        def with_torch(items: torch.Tensor = items, present: torch.Tensor = present) -> np.ndarray[Any, Any]:
            with torch.inference_mode():
                vectors: np.ndarray[Any, Any] = default(table[items], present).numpy()
            return vectors

        both = [timed(with_torch), timed(lambda queries=queries: served.vectors(queries))]
        difference = float(np.abs(with_torch() - served.vectors(queries)).max())
        add_line(f"| {batch} | {both[0]:.3f} | {both[1]:.3f} | {both[0] / both[1]:.2f} | {difference:.0e} |")


def network(length: int, positions: tuple[int, ...]) -> Network:
    """An encoder with random weights."""
    torch.manual_seed(0)
    return Network(192, SessionConfig(length=length, positions=positions)).eval()


def forward(encoder: Network, batch: int, length: int) -> None:
    """Encode random vectors once."""
    vectors = torch.randn(batch, length, 192)
    with torch.inference_mode():
        encoder(vectors, torch.ones(batch, length, dtype=torch.bool))


def timed(call: Callable[[], Any], least: float = 2.0) -> float:
    """Median milliseconds of a call, measured for at least this many seconds."""
    call()
    walls, end = [], time.perf_counter() + least
    while time.perf_counter() < end:
        began = time.perf_counter()
        call()
        walls.append(time.perf_counter() - began)
    return 1e3 * float(np.median(walls))


PARTS: dict[str, Part] = {
    "quality": quality,
    "histories": histories,
    "speed": speed,
}

if __name__ == "__main__":
    sys.exit(main())
