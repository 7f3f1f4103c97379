"""The methods that LightSAGE is compared with: counting, learned vectors and content, each with its tuning grid.

`item2vec` (gensim), `ALS` and `BPR` (implicit) need the extra `benchmark`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import networks
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from shop import Split

from graph_build.edges import swing_kernel
from model.config import FeatureConfig
from model.features import fit_features
from retrieval import topk
from retrieval.arrays import Mask
from retrieval.evaluation.baselines import CountingBaseline, ItemKNN, Popularity, Rules, TrainingSessions, Transitions
from retrieval.queries import Queries, Ranker
from retrieval.ranking.embedding_ranker import columns
from retrieval.topk import TopK

Params = dict[str, Any]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Peer:
    """One method: how to fit it, the values that tuning may choose, and the settings to try first."""

    name: str
    fit: Callable[[Split, Params, int], Ranker]
    space: dict[str, list[Any]] = field(default_factory=dict)
    first: Params = field(default_factory=dict)
    random: bool = False
    trials: int = 20


class VectorRanker:
    """Ranks by the inner product with the vector of the last viewed item; items with zero vectors are never results."""

    def __init__(self, query: Floats, item: Floats) -> None:
        self.query, self.item = query, item
        self.present = np.flatnonzero(np.any(item != 0, axis=1))

    def rank(self, queries: Queries, k: int, *, eligible: Mask | None = None, include_current: bool = False) -> TopK:
        """See `retrieval.queries.Ranker`."""
        rows = self.present if eligible is None else self.present[eligible[self.present]]
        candidates, parts = self.item[rows], []
        for which in topk.chunks(len(queries), len(rows)):
            last = queries.last[which]
            score = self.query[last] @ candidates.T
            if not include_current:
                line, column = columns(np.arange(len(last)), last, rows)
                score[line, column] = -np.inf
            parts.append(topk.top_k(score, k, rows))
        return topk.concatenate(parts)


def unit(vectors: Any) -> Floats:
    """L2-normalise rows; rows of zeros stay zero."""
    vectors = np.asarray(vectors, np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _visits(sessions: TrainingSessions) -> sp.csr_array:
    """The (S, N) matrix of the items seen in each session."""
    shape = (len(sessions.offsets) - 1, sessions.n_items)
    visits = sp.csr_array((np.ones(len(sessions.rows), np.float32), (sessions.session, sessions.rows)), shape=shape)
    visits.data[:] = 1.0
    return visits


def _item_knn(split: Split, params: Params, seed: int) -> Ranker:
    """|S_a ∩ S_b| / (|S_a| |S_b|)^power, shrunk if few sessions have a and b; power ½ unshrunk is the cosine."""
    if params == {"shrink": 0, "power": 0.5}:
        return ItemKNN(split.sessions)
    visits = _visits(split.sessions)
    together = sp.csr_array(visits.T @ visits)
    together.setdiag(0.0)
    together.eliminate_zeros()
    size = np.maximum(visits.sum(axis=0), 1.0) ** -params["power"]
    owner = np.repeat(np.arange(together.shape[0]), np.diff(together.indptr))
    both = together.data
    together.data = both * size[owner] * size[together.indices] * both / (both + params["shrink"])
    return CountingBaseline(together)


def _swing(split: Split, params: Params, seed: int) -> Ranker:
    """Swing on the sessions. The graph's own Swing edges are not used, because LightSAGE chose their quota."""
    visits = _visits(split.sessions)
    visits.sort_indices()
    short = np.diff(visits.indptr) <= np.int64(params["max_items"])
    visits = visits[np.flatnonzero(short)]
    lists = swing_kernel.UserLists(
        visits.indptr.astype(np.int64), visits.indices.astype(np.int32), np.ones(visits.nnz, np.uint8)
    )
    anchor, partner, raw = swing_kernel.swing_top_k(
        swing_kernel.drop_uncounted(lists, 2),
        np.array([0.0, 1.0]),
        np.ones(visits.shape[1], np.bool_),
        alpha=params["alpha"],
        user_offset=0.0,
        user_exponent=params["exponent"],
        top_k=200,
        scale=1 << 30,
    )
    shape = (visits.shape[1], visits.shape[1])
    return CountingBaseline(sp.csr_array((raw.astype(np.float64), (anchor, partner)), shape=shape))


def _item2vec(split: Split, params: Params, seed: int) -> Ranker:
    from gensim.models import Word2Vec

    sessions = split.sessions
    names = sessions.rows.astype(str).tolist()
    sentences = [names[a:b] for a, b in zip(sessions.offsets[:-1], sessions.offsets[1:], strict=True) if b - a > 1]
    model = Word2Vec(
        sentences,
        vector_size=params["dim"],
        window=params["window"],
        epochs=params["epochs"],
        ns_exponent=params["ns_exponent"],
        sg=1,
        min_count=1,
        negative=10,
        sample=0,
        workers=2,
        seed=seed,
    )
    rows = np.array([int(name) for name in model.wv.index_to_key])
    query, item = (np.zeros((sessions.n_items, params["dim"]), np.float32) for _ in range(2))
    query[rows] = model.wv.vectors
    item[rows] = model.syn1neg if params["output"] else model.wv.vectors
    return VectorRanker(unit(query), unit(item) if params["cosine"] else item)


def _als(split: Split, params: Params, seed: int) -> Ranker:
    from implicit.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(
        factors=params["dim"],
        regularization=params["regularization"],
        alpha=params["alpha"],
        iterations=15,
        random_state=seed,
        num_threads=0,
    )
    model.fit(sp.csr_matrix(_visits(split.sessions)), show_progress=False)
    return _factors(model.item_factors, params)


def _bpr(split: Split, params: Params, seed: int) -> Ranker:
    from implicit.bpr import BayesianPersonalizedRanking

    model = BayesianPersonalizedRanking(
        factors=params["dim"],
        learning_rate=params["learning_rate"],
        regularization=params["regularization"],
        iterations=params["iterations"],
        random_state=seed,
        num_threads=0,
    )
    model.fit(sp.csr_matrix(_visits(split.sessions)), show_progress=False)
    # The last factor is the item's bias, which belongs to a score and not to a similarity of items.
    return _factors(model.item_factors[:, : params["dim"]], params)


def _factors(factors: Any, params: Params) -> Ranker:
    return VectorRanker(unit(factors), unit(factors) if params["cosine"] else np.asarray(factors, np.float32))


def _content(split: Split, params: Params, seed: int) -> Ranker:
    """Nearest neighbours by catalogue features; rare values count more, titles and embeddings form a second block."""
    graph = split.graph
    config = FeatureConfig()
    features = fit_features(graph.items, config, seed).transform(graph.items, graph.item_ids, graph.events >= 1)
    levels = sp.csr_matrix(features.sparse[:, features.num_ids :])
    frequency = np.maximum(np.bincount(levels.indices, minlength=levels.shape[1]), 1)
    weighted = sp.csr_matrix(levels @ sp.diags_array(np.log(1 + len(graph.item_ids) / frequency)))
    # A seeded projection keeps inner products to a percent or two, and makes the vectors dense for the search.
    basis = np.random.default_rng(seed).standard_normal((levels.shape[1], 512)).astype(np.float32) / np.sqrt(512)
    blocks = (
        [unit(weighted @ basis), params["dense"] * unit(features.dense)]
        if features.dense.shape[1]
        else [unit(weighted @ basis)]
    )
    vectors = unit(np.hstack(blocks))
    popular = np.log1p(split.events).astype(np.float32)[:, None] * params["popularity"]
    ones = np.ones((len(vectors), 1), np.float32)
    return VectorRanker(np.hstack([vectors, ones]), np.hstack([vectors, popular]))


def _network(kind: str) -> Callable[[Split, Params, int], Ranker]:
    def fit(split: Split, params: Params, seed: int) -> Ranker:
        vectors = networks.fit(kind, split.graph, params, seed)
        return VectorRanker(vectors, vectors)

    return fit


_LAYERED = {
    "dim": [64, 128, 192],
    "layers": [1, 2],
    "fanout": [5, 10, 20],
    "top_k": [10, 30],
    "dropout": [0.0, 0.1, 0.2],
    "epochs": [1, 2, 3],
    "lr": [0.001, 0.003, 0.01],
}
_LAYERED_FIRST = {"dim": 64, "layers": 2, "fanout": 10, "top_k": 30, "dropout": 0.1, "epochs": 2, "lr": 0.003}

PEERS = (
    Peer("popularity", lambda split, _, __: Popularity(split.popularity)),
    Peer("transitions", lambda split, _, __: Transitions(split.sessions)),
    Peer(
        "session rules",
        lambda split, params, _: Rules(split.sessions, **params),
        {"max_steps": [3, 5, 10, 20], "backward": [0.0, 0.25, 0.5, 0.75, 1.0]},
        {"max_steps": 10, "backward": 0.5},
    ),
    Peer(
        "item-kNN",
        _item_knn,
        {"shrink": [0, 1, 3, 10], "power": [0.1, 0.2, 0.3, 0.4, 0.5]},
        {"shrink": 0, "power": 0.5},
    ),
    Peer(
        "Swing",
        _swing,
        {"alpha": [0.0, 1.0, 5.0], "exponent": [0.0, 0.25, 0.5, 1.0], "max_items": [100, 1000]},
        {"alpha": 1.0, "exponent": 0.5, "max_items": 1000},
    ),
    Peer(
        "item2vec",
        _item2vec,
        {
            "dim": [64, 128],
            "window": [2, 3, 5, 10],
            "epochs": [5, 10, 20, 40],
            "ns_exponent": [-0.5, 0.0, 0.5, 0.75, 1.0],
            "output": [False, True],
            "cosine": [True, False],
        },
        {"dim": 64, "window": 5, "epochs": 20, "ns_exponent": 0.75, "output": False, "cosine": True},
        random=True,
    ),
    Peer(
        "ALS",
        _als,
        {
            "dim": [64, 128, 256],
            "regularization": [0.01, 0.1, 1.0],
            "alpha": [1.0, 5.0, 20.0, 40.0],
            "cosine": [True, False],
        },
        {"dim": 128, "regularization": 0.01, "alpha": 1.0, "cosine": True},
        random=True,
    ),
    Peer(
        "BPR",
        _bpr,
        {
            "dim": [64, 128, 256],
            "learning_rate": [0.01, 0.03, 0.1],
            "regularization": [0.001, 0.01, 0.03],
            "iterations": [100, 200],
            "cosine": [True, False],
        },
        {"dim": 64, "learning_rate": 0.01, "regularization": 0.01, "iterations": 100, "cosine": True},
        random=True,
    ),
    Peer(
        "content",
        _content,
        {"dense": [0.5, 1.0, 2.0], "popularity": [0.0, 0.01, 0.03, 0.1, 0.3]},
        {"dense": 1.0, "popularity": 0.0},
    ),
    # Other networks on LightSAGE's graph, with its features, loss and negatives.
    Peer("GraphSAGE", _network("GraphSAGE"), _LAYERED, _LAYERED_FIRST, random=True, trials=6),
    Peer(
        "LightGCN",
        _network("LightGCN"),
        _LAYERED | {"layers": [1, 2, 3], "lr": [0.003]},
        _LAYERED_FIRST,
        random=True,
        trials=6,
    ),
    Peer("PinSage", _network("PinSage"), _LAYERED, _LAYERED_FIRST, random=True, trials=6),
)
