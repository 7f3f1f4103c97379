"""The session encoder beside the weighted mean and session-kNN; sparse beside full attention; ONNX beside torch.

    python benchmarks/sessions.py quality --graph NAME=GRAPH --test EVENTS [--seeds 1] [--threads 2] [--output TABLE.md]
    python benchmarks/sessions.py histories --graph NAME=GRAPH --train EVENTS --test EVENTS [--threads 2] [--output …]
    python benchmarks/sessions.py speed [--output TABLE.md]

GRAPH is a folder that `benchmarks/quality` or `lightsage run` built from the training events. *quality*: the next item
of every prefix of a test session, which may be the item being viewed; the peer's settings are chosen on the hold-out.
*histories*: all that a user bought, in order, as one session; the items of the test's baskets are asked of it.
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
from _parts import Line, Part, parser, run

from graph_build.config import InputConfig
from jobs.config import Config
from jobs.pipeline.evaluate import catalogue_of, counting_peers
from jobs.pipeline.holdout import held_sessions
from jobs.pipeline.session_stage import blended_encoder, browsing_sessions, train_encoder
from jobs.pipeline.test_events import read_events
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
from retrieval.evaluation.sessions import sessions_from_graph, sessions_from_table
from retrieval.evaluation.vmis_knn import SessionKNN
from retrieval.queries import Queries
from retrieval.ranking.embedding_ranker import EmbeddingRanker
from retrieval.ranking.session_encoder import SessionEncoder

CELLS = (("all", "HR", 20), ("all", "MRR", 20), ("all", "HR", 100), ("tail", "HR", 100))
SAMPLES, NEIGHBOURS = (500, 1000, 2500), (100, 500, 1500)
STREC = (0, 20, 20, 5, 5, 5, 5, 1)
"""The positions of STRec's eight layers at length 50."""


def main() -> int:
    """Measure and print."""
    options = parser(__doc__, PARTS)
    options.add_argument("--graph", metavar="NAME=GRAPH")
    options.add_argument("--targets", type=int, default=200_000, help="histories: of training, a sample")
    options.add_argument("--session", default="", help="settings of [session], e.g. 'max_epochs=5 positions=[0,0,1]'")
    return run(options.parse_args(), PARTS)


def settings(chosen: argparse.Namespace, seed: int) -> Config:
    """The defaults, with what the command line says."""
    given = dict(part.split("=", 1) for part in chosen.session.split())
    session = {name: json.loads(value) for name, value in given.items()}
    learning = {"seed": seed, "threads": chosen.threads}
    return Config.model_validate({"model": {"train": learning}, "session": {"enabled": True} | learning | session})


def quality(chosen: argparse.Namespace, say: Line) -> None:
    """The table of a shop whose sessions browse."""
    name, _, root = chosen.graph.partition("=")
    graph = Path(root)
    test = sessions_from_table(read_events([str(chosen.test)], InputConfig()))
    say(f"## {name}: the next item of a session")
    say("")
    say("| model | HR@20 | MRR@20 | HR@100 | tail HR@100 | wall s of training |")
    say("|---|---:|---:|---:|---:|---:|")
    rows: dict[str, list[list[float]]] = {}
    for seed in range(chosen.seeds):
        config = settings(chosen, seed)
        began = time.perf_counter()
        picked = choose(graph, config, lambda *_: None)
        embeddings = fit_everything(graph, config, picked.record.share, lambda *_: None).embeddings
        base = time.perf_counter() - began
        began = time.perf_counter()
        learned = train_encoder(browsing_sessions(graph), embeddings, config, lambda *_: None)
        encoder = blended_encoder(learned, picked.encoder_share or 1.0)
        more = time.perf_counter() - began
        catalogue = catalogue_of(embeddings, graph / "full", picked.weights)
        edges = Edges.from_table(pq.read_table(graph / "full" / "edges"), catalogue.item_ids, picked.weights)
        pairs = session_pairs(test, catalogue.item_ids, catalogue.events, include_current=True)
        latest = config.retrieval.model_copy(update={"recent_items": 1})
        models: dict[str, tuple[Ranker, float]] = {
            "LightSAGE, the last item": (EmbeddingRanker(catalogue, edges, latest), base),
            "LightSAGE, weighted mean": (EmbeddingRanker(catalogue, edges, config.retrieval), base),
            f"LightSAGE, session encoder{'' if picked.encoder_share else ' (not chosen on the hold-out)'}": (
                EmbeddingRanker(catalogue, edges, config.retrieval, encoder),
                base + more,
            ),
        }
        if seed == 0:
            models |= {peer: (ranker, 0.0) for peer, ranker in peers(graph, catalogue, edges, picked).items()}
        for model, (ranker, wall) in models.items():
            rows.setdefault(model, []).append([*cells(ranker, pairs), wall])
            print(model, rows[model][-1], file=sys.stderr, flush=True)
    for model, found in rows.items():
        *mean, wall = np.mean(found, axis=0)
        spread = np.std(found, axis=0)[: len(mean)]
        shown = " | ".join(f"{m:.3f}" + (f" ± {s:.3f}" if s else "") for m, s in zip(mean, spread, strict=True))
        say(f"| {model} | {shown} | {f'{wall:.0f}' if wall else ''} |")
    say("")
    say(f"{len(pairs):,} prefixes, {chosen.seeds} seed{'s' if chosen.seeds > 1 else ''} of what is random.")


def peers(graph: Path, catalogue: Catalogue, edges: Edges, picked: HoldoutChoice) -> dict[str, Ranker]:
    """Counting peers, and VMIS-kNN with the settings that do best on the hold-out."""
    found = {name: ranker for name, ranker in counting_peers(graph, catalogue, edges).items() if name != "popularity"}
    fit = catalogue_of(picked.embeddings, graph / "fit", picked.weights)
    held = sessions_from_graph(held_sessions(graph, Config()))
    asked = session_pairs(held, fit.item_ids, fit.events)
    early = training_sessions(graph, fit, held=False)
    tried = {
        (m, k): choice_score(SessionKNN(early, m, k), asked, "session").with_first_places
        for m, k in product(SAMPLES, NEIGHBOURS)
        if k <= m
    }
    m, k = max(tried, key=lambda one: tried[one])
    print("VMIS-kNN on the hold-out", tried, file=sys.stderr, flush=True)
    return found | {f"VMIS-kNN, m = {m}, k = {k}": SessionKNN(training_sessions(graph, catalogue), m, k)}


def training_sessions(graph: Path, catalogue: Catalogue, *, held: bool = True) -> TrainingSessions:
    """Sessions of the graph, by their start."""
    chosen = None if held else ~pc.field("held")
    table = pq.read_table(graph / "sessions", columns=["session", "start", "kind", "items", "times"], filters=chosen)
    sessions = sessions_from_graph(table.sort_by("start"))
    return TrainingSessions(lookup(catalogue.item_ids, sessions.item_ids)[0], sessions.offsets, catalogue.n_rows)


def cells(ranker: Ranker, pairs: Pairs) -> list[float]:
    """The CELLS."""
    found = evaluate("", ranker, pairs, protocol="session", samples=1)
    values = {(row["slice"], row["metric"], row["k"]): row["value"] for row in found}
    return [float(values[cell] or 0.0) for cell in CELLS]


def histories(chosen: argparse.Namespace, say: Line) -> None:
    """Sparse beside full attention over users' purchases, with four layers."""
    name, _, root = chosen.graph.partition("=")
    graph = Path(root)
    config = settings(chosen, 0)
    picked = choose(graph, config.model_copy(update={"session": SessionConfig()}), lambda *_: None)
    embeddings = fit_everything(graph, config, picked.record.share, lambda *_: None).embeddings
    ids = np.array(embeddings.item_ids.to_pylist(), dtype=object)
    train, test = (bought(path, ids) for path in (chosen.train, chosen.test))
    sessions, ends = asked_of(train, test)
    say(f"## {name}: users' purchases, {config.session.length if 'length' in chosen.session else 50} at most")
    say("")
    say("| attention from | HR@20 | HR@100 | of full | wall s of training |")
    say("|---|---:|---:|---:|---:|")
    whole = 0.0
    for label, positions in (("all, four layers", (0, 0, 0, 1)), ("50, 20, 5, 1", (0, 20, 5, 1))):
        wanted = config.session.model_copy(update={"length": 50, "positions": positions, "max_epochs": 1.0})
        began = time.perf_counter()
        trained = train_sessions(some(train, chosen.targets), embeddings, wanted)
        wall = time.perf_counter() - began
        hits = next_items(trained, sessions, ends, embeddings, wanted.length)
        whole = whole or float(np.mean(hits))
        say(f"| {label} | {hits[0]:.4f} | {hits[1]:.4f} | {np.mean(hits) / whole:.3f} | {wall:.0f} |")


def bought(path: Path, ids: np.ndarray[Any, Any]) -> dict[str, list[int]]:
    """user → rows of what was bought, in order."""
    events = pq.read_table(path, columns=["user_id", "item_id", "timestamp", "session_id"])
    events = events.sort_by([("timestamp", "ascending"), ("session_id", "ascending")])
    rows, known = lookup(ids, events["item_id"].combine_chunks().cast(pa.string()))
    found: dict[str, list[int]] = {}
    for user, row, there in zip(events["user_id"].to_pylist(), rows.tolist(), known.tolist(), strict=True):
        if there:
            found.setdefault(str(user), []).append(row)
    return found


def some(histories: dict[str, list[int]], targets: int) -> SessionRows:
    """The ends of all histories, about so many targets."""
    each = max(2, targets // len(histories))
    lists = [rows[-each:] for rows in histories.values()]
    return SessionRows(np.concatenate(lists), offsets_from_lengths(np.array([len(one) for one in lists])))


def asked_of(train: dict[str, list[int]], test: dict[str, list[int]]) -> tuple[SessionRows, np.ndarray[Any, Any]]:
    """(what each test user had bought, and then bought; the places of the latter)."""
    users = [user for user in test if user in train]
    lists = [train[user][-200:] + test[user] for user in users]
    offsets = offsets_from_lengths(np.array([len(one) for one in lists]))
    ends = [offsets[n] + min(200, len(train[user])) + np.arange(len(test[user])) for n, user in enumerate(users)]
    places = np.concatenate(ends)
    chosen = np.random.default_rng(0).choice(places, min(20_000, len(places)), replace=False)
    return SessionRows(np.concatenate(lists), offsets), np.sort(chosen)


def next_items(
    trained: TrainedSessions, sessions: SessionRows, ends: np.ndarray[Any, Any], embeddings: Embeddings, length: int
) -> tuple[float, float]:
    """HR@20 and HR@100 of what stands at the places."""
    from model.sessions.training import encode_prefixes

    item = torch.from_numpy(np.asarray(embeddings.item))
    vectors = torch.from_numpy(encode_prefixes(trained, sessions, ends, length))
    target, hits = torch.from_numpy(sessions.rows[ends]), []
    for a in range(0, len(ends), 512):
        score = vectors[a : a + 512] @ item.T
        own = score.gather(1, target[a : a + 512, None])
        place = (score > own).sum(dim=1)
        hits.append(torch.stack([place < 20, place < 100], dim=1).float())
    mean = torch.cat(hits).mean(dim=0)
    return float(mean[0]), float(mean[1])


def speed(chosen: argparse.Namespace, say: Line) -> None:
    """One thread, in one run."""
    torch.set_num_threads(1)
    say("## Speed, one thread")
    say("")
    say("Eight layers, sessions of 50 random items, 192 dimensions:")
    say("")
    say("| sessions at once | full ms | STRec's positions ms | full / sparse |")
    say("|---:|---:|---:|---:|")
    full, sparse = (network(50, positions) for positions in ((0,) * 7 + (1,), STREC))
    for batch in (1, 64):
        both = [timed(lambda n=n, batch=batch: forward(n, batch, 50)) for n in (full, sparse)]
        say(f"| {batch} | {both[0]:.2f} | {both[1]:.2f} | {both[0] / both[1]:.2f} |")
    say("")
    say("The default encoder, sessions of 5 items, torch beside onnxruntime:")
    say("")
    say("| sessions at once | torch ms | ONNX ms | torch / ONNX | largest difference |")
    say("|---:|---:|---:|---:|---:|")
    config = SessionConfig()
    default = network(config.length, config.positions)
    inputs = np.random.default_rng(0).standard_normal((1000, 192)).astype(np.float32)
    served = SessionEncoder(to_onnx(default), inputs, config.length)
    table = torch.from_numpy(inputs)
    for batch in (1, 64):
        rows = np.random.default_rng(1).integers(0, 1000, 5 * batch)
        queries = Queries(rows, np.arange(batch + 1) * 5)
        place = torch.from_numpy(rows.reshape(batch, 5))
        present = torch.ones(batch, 5, dtype=torch.bool)

        def with_torch(place: torch.Tensor = place, present: torch.Tensor = present) -> np.ndarray[Any, Any]:
            with torch.inference_mode():
                found: np.ndarray[Any, Any] = default(table[place], present).numpy()
            return found

        both = [timed(with_torch), timed(lambda queries=queries: served.vectors(queries))]
        apart = float(np.abs(with_torch() - served.vectors(queries)).max())
        say(f"| {batch} | {both[0]:.3f} | {both[1]:.3f} | {both[0] / both[1]:.2f} | {apart:.0e} |")


def network(length: int, positions: tuple[int, ...]) -> Network:
    """With random weights."""
    torch.manual_seed(0)
    return Network(192, SessionConfig(length=length, positions=positions)).eval()


def forward(encoder: Network, batch: int, length: int) -> None:
    """Once, over random vectors."""
    vectors = torch.randn(batch, length, 192)
    with torch.inference_mode():
        encoder(vectors, torch.ones(batch, length, dtype=torch.bool))


def timed(call: Callable[[], Any], least: float = 2.0) -> float:
    """Median milliseconds."""
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
