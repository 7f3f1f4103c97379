"""FAISS over the advertised rows: the only place that knows FAISS, its ids and its sentinels."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from threadpoolctl import threadpool_limits

from . import exact
from .config import RetrievalConfig
from .errors import IndexFolderError
from .exact import Floats, Mask, Rows

_log = logging.getLogger(__name__)
_RECALL_AT = 100
_ADD_ROWS = 65_536

Progress = Callable[[str, float], None]


def use_threads(threads: int) -> None:
    """Set the threads of FAISS, its OpenMP, and numpy's BLAS: 1 for single queries, more only pays on batches.

    On a host that has other work a second BLAS thread turns a product of 0.1 ms into one of 8 ms.
    """
    faiss.omp_set_num_threads(threads)
    threadpool_limits(threads, user_api="blas")


@dataclass(frozen=True, eq=False)
class Ann:
    """An approximate index over `rows` (I,) int64, ascending; its ids are positions in `rows`.

    kind: "flat" (exact) or "ivf_sq8"; parameters: nlist and nprobe of the latter; recall: recall@100 against exact
    search, measured when it was built.
    """

    index: Any
    rows: Rows
    kind: str
    parameters: dict[str, int]
    recall: float

    def selection(self, eligible: Mask) -> Selection:
        """Which of the indexed rows a search may return; `eligible` (N,) bool over all rows of the catalogue."""
        return Selection(eligible[self.rows])

    def search(self, queries: Floats, k: int, selection: Selection | None = None) -> list[Rows]:
        """For each query (n, D) up to k selected rows, best first by approximate score. Never a row not selected."""
        k = min(k, len(self.rows))
        if k == 0:
            return [np.zeros(0, np.int64)] * len(queries)
        parameters = self._parameters(selection)
        if self.index.d > queries.shape[1]:
            queries = with_bias(queries, np.ones(len(queries), np.float32))
        _, found = self.index.search(np.ascontiguousarray(queries), k, params=parameters)
        return [self.rows[line[line >= 0]] for line in found]

    def _parameters(self, selection: Selection | None) -> Any:
        selector = {} if selection is None else {"sel": selection.selector}
        if self.kind == "flat":
            return faiss.SearchParameters(**selector)
        nprobe, nlist = self.parameters["nprobe"], self.parameters["nlist"]
        if selection is not None:
            # The fewer rows count, the more lists the best k of them are spread over.
            nprobe = math.ceil(nprobe * math.sqrt(len(self.rows) / max(1, selection.n_rows)))
        return faiss.SearchParametersIVF(nprobe=min(nprobe, nlist), **selector)  # type: ignore[call-arg]

    def write(self, path: Path) -> None:
        """Write the FAISS file."""
        faiss.write_index(self.index, str(path))


class Selection:
    """A mask over the indexed rows in the form that FAISS reads; reusable while the mask stays the same."""

    def __init__(self, mask: Mask) -> None:
        self.n_rows = int(mask.sum())
        # FAISS owns neither the bits nor the selector: both must live as long as a search that uses them.
        self._bits = np.packbits(mask, bitorder="little")
        self.selector = faiss.IDSelectorBitmap(len(mask), faiss.swig_ptr(self._bits))


def with_bias(vectors: Floats, bias: Floats) -> Floats:
    """(n, D') float32: the bias as one more dimension, so that an inner product contains it.

    D' is a multiple of 16, at which FAISS reads 8-bit codes without a slow rest.
    """
    n, dim = vectors.shape
    wider = np.zeros((n, -(-(dim + 1) // 16) * 16), np.float32)
    wider[:, :dim], wider[:, dim] = vectors, bias
    return wider


def build(
    item: Floats,
    query: Floats,
    rows: Rows,
    config: RetrievalConfig,
    progress: Progress | None = None,
    *,
    bias: Floats | None = None,
) -> Ann:
    """Index the given rows (ascending int64) of item (N, D) by inner product, tuned on a sample of query (N, D).

    `bias` (N,) float32 is added to every inner product with the item.

    Up to `config.exact_below` rows it is flat. Beyond that, inverted lists of 8-bit vectors; nprobe is about the
    smallest whose recall@100 on the sample reaches `config.target_recall`; both are kept with the index.
    """
    report = progress or (lambda _message, _share: None)
    if bias is not None and bias.any():
        item, query = with_bias(item, bias), with_bias(query, np.ones(len(query), np.float32))
    dim = item.shape[1]
    if len(rows) <= config.exact_below:
        flat = faiss.IndexFlatIP(dim)
        flat.add(np.ascontiguousarray(item[rows]))
        return Ann(flat, rows, "flat", {}, 1.0)
    generator = np.random.default_rng(config.seed)
    nlist = min(len(rows), 4 * round(math.sqrt(len(rows))))
    training = min(len(rows), nlist * config.train_rows_per_list)
    sample = np.sort(generator.choice(rows, training, replace=False))
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(dim), dim, nlist, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    )
    report(f"training {nlist} inverted lists", 0.1)
    index.train(np.ascontiguousarray(item[sample]))
    for start in range(0, len(rows), _ADD_ROWS):
        index.add(np.ascontiguousarray(item[rows[start : start + _ADD_ROWS]]))
        report("adding vectors", 0.2 + 0.5 * start / len(rows))
    probes = np.sort(generator.choice(len(query), min(config.tuning_queries, len(query)), replace=False))
    nprobe, recall = _tune(index, item, np.ascontiguousarray(query[probes]), rows, nlist, config)
    report(f"nprobe {nprobe} of {nlist}, recall@{_RECALL_AT} {recall:.3f}", 1.0)
    return Ann(index, rows, "ivf_sq8", {"nlist": nlist, "nprobe": nprobe}, recall)


def _tune(
    index: Any, item: Floats, queries: Floats, rows: Rows, nlist: int, config: RetrievalConfig
) -> tuple[int, float]:
    k = min(_RECALL_AT, len(rows))
    truth = exact.search(queries, item, k, rows).rows.reshape(len(queries), k)
    # The shortlist is ranked exactly afterwards, so that only what it misses counts.
    shortlist = min(len(rows), math.ceil(k * config.shortlist_factor))

    def recall(nprobe: int) -> float:
        parameters = faiss.SearchParametersIVF(nprobe=nprobe)  # type: ignore[call-arg]
        _, found = index.search(queries, shortlist, params=parameters)
        hits = sum(np.isin(want, rows[got[got >= 0]]).sum() for want, got in zip(truth, found, strict=True))
        return float(hits) / truth.size

    # Doubling finds a number that is enough, halving the gap the smallest within a sixteenth.
    enough, short = 1, 0
    while (reached := recall(enough)) < config.target_recall and enough < nlist:
        enough, short = min(2 * enough, nlist), enough
    if reached < config.target_recall:
        _log.warning("recall@%d is %.3f with every list probed, below %.3f", k, reached, config.target_recall)
        return enough, reached
    while enough - short > max(1, enough // 16):
        middle = (enough + short) // 2
        got = recall(middle)
        if got >= config.target_recall:
            enough, reached = middle, got
        else:
            short = middle
    return enough, reached


def read(path: Path, rows: Rows, kind: str, parameters: dict[str, int], recall: float) -> Ann:
    """Read the FAISS file of an index over `rows`.

    Raises:
        IndexFolderError: the file is missing, damaged, or holds another number of vectors.
    """
    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        raise IndexFolderError(f"{path}: not readable as a FAISS index; build the index again") from error
    if index.ntotal != len(rows):
        raise IndexFolderError(f"{path}: holds {index.ntotal} vectors, indexed_rows.npy {len(rows)}; build it again")
    return Ann(index, rows, kind, parameters, recall)
