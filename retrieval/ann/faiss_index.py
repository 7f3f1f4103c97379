"""FAISS over the advertised rows: the only place that knows FAISS, its ids and its sentinels."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from retrieval.ann.matryoshka import funnel, shorter
from retrieval.arrays import Floats, Mask, Rows
from retrieval.errors import IndexFolderError

FILTERED_PERCENT = (30, 10, 3)
"""Shares of eligible rows for which an index is tuned, besides all."""


def use_threads(threads: int) -> None:
    """Set the threads of FAISS, its OpenMP, and numpy's BLAS: 1 for single queries, more only pays on batches.

    On a host that has other work a second BLAS thread turns a product of 0.1 ms into one of 8 ms.
    """
    faiss.omp_set_num_threads(threads)
    threadpool_limits(threads, user_api="blas")


@contextmanager
def workers(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that each search and multiply on their own, which takes all cores without waiting for one another."""
    # FAISS counts its threads by who asks, BLAS for the whole process.
    with (
        threadpool_limits(1, user_api="blas"),
        ThreadPoolExecutor(threads, initializer=faiss.omp_set_num_threads, initargs=(1,)) as pool,
    ):
        yield pool


@dataclass(frozen=True, eq=False)
class Ann:
    """An approximate index over `rows` (I,) int64, ascending; its ids are positions in `rows`.

    kind: "flat" (exact), or inverted lists of 8-bit vectors ("ivf_sq8") or of product-quantised ones ("ivf_pq4");
    parameters: of the latter nlist, nprobe, visited: the rows in so many lists, and shortlist: how many times k rows
    are to be asked for, then ranked exactly. Where not all dimensions are indexed (`matryoshka`), prefix: how many are,
    of dim, and funnel: 1 if the shortlist is to be halved by longer ones. recall: recall@100 of all that against exact
    search, measured at building.
    """

    index: Any
    rows: Rows
    kind: str
    parameters: dict[str, int]
    recall: float
    _own: threading.local = field(default_factory=threading.local, repr=False)
    _kept: dict[int, Any] = field(default_factory=dict, repr=False)

    @property
    def shortlist(self) -> int:
        """How many times the wanted rows a search should be asked for, as its own order is but about right."""
        return self.parameters.get("shortlist", 3)

    @property
    def prefix(self) -> int:
        """How many dimensions are indexed; 0 = all."""
        return self.parameters.get("prefix", 0)

    @property
    def visited(self) -> int:
        """How many rows a search without a selection looks at."""
        if self.kind == "flat":
            return len(self.rows)
        share = self.parameters["nprobe"] / self.parameters["nlist"]
        return self.parameters.get("visited", math.ceil(share * len(self.rows)))

    def exact_is_cheaper(self, eligible: int, *, gathered: bool, outside: int = 0) -> bool:
        """Whether so many eligible rows are better scanned, with their vectors side by side or still to be gathered.

        `outside`: further eligible rows, which the index does not hold, and which have to be fetched beside a search.

        In units of skipping a row in a list (about 10 ns): 64 dimensions cost 1 side by side, 1.4 in a list, and a row
        that has to be fetched 3 and 2.5 for its every 64. Fitted to benchmarks/filters.py.
        """
        vectors, whole = self.index.d / 64, self.parameters.get("dim", self.index.d) / 64
        fetched = 3 + 2.5 * whole
        scan = (eligible + outside) * (whole if gathered else fetched)
        seen = self.needed(eligible)
        skipped = seen * (len(self.rows) - eligible) / max(1, eligible)
        return scan <= 1.4 * vectors * seen + skipped + fetched * outside

    def needed(self, selected: int) -> int:
        """How many of so many selected rows a search has to look at, as it was measured for some shares of the rows.

        A neighbourhood of which a tenth is left has its next neighbours further off, among more that are as far.
        """
        share = max(selected, 1) / max(1, len(self.rows))
        return min(selected, math.ceil(math.exp(np.interp(math.log(share), *self._visited))))

    @cached_property
    def _visited(self) -> NDArray[np.float64]:
        """(2, measured shares): the logarithm of the share of eligible rows, ascending, and that of rows to look at."""
        shares = [(1.0, self.visited)]
        for percent in FILTERED_PERCENT:
            if measured := self.parameters.get(f"visited_{percent}"):
                shares.insert(0, (percent / 100, measured))
        return np.log(np.array(shares, np.float64)).T

    @cached_property
    def list_of(self) -> NDArray[np.int32]:
        """(I,) the inverted list of each indexed row."""
        found, lists = np.zeros(len(self.rows), np.int32), self.index.invlists
        for number in range(self.parameters["nlist"]):
            size = lists.list_size(number)
            if size:
                found[faiss.rev_swig_ptr(lists.get_ids(number), size)] = number
        return found

    def selection(self, eligible: Mask) -> Selection:
        """Which of the indexed rows a search may return; `eligible` (N,) bool over all rows of the catalogue."""
        mask = eligible[self.rows]
        if self.kind == "flat":
            return Selection(mask, None)
        return Selection(mask, np.bincount(self.list_of[mask], minlength=self.parameters["nlist"]))

    def search(self, queries: Floats, k: int, selection: Selection | None = None) -> list[Rows]:
        """For each query (n, D) up to k selected rows, best first by approximate score. Never a row not selected."""
        k = min(k, len(self.rows))
        if k == 0:
            return [np.zeros(0, np.int64)] * len(queries)
        if selection is not None and self.kind != "flat":
            return [self.search_one(query, k, selection) for query in queries]
        parameters = self._parameters(selection)
        _, found = self.index.search(self.seen(queries), k, params=parameters)
        return [self.rows[line[line >= 0]] for line in found]

    def seen(self, queries: Floats) -> Floats:
        """Queries (n, D) as the index takes them: their prefix, where that is indexed, and a one for the bias."""
        if self.prefix:
            queries = shorter(queries, self.prefix)
        if self.index.d > queries.shape[1]:
            queries = with_bias(queries, np.ones(len(queries), np.float32))
        return np.ascontiguousarray(queries)

    def narrowed(self, rows: Rows, vector: Floats, item: Floats, bias: Floats, least: int) -> Rows:
        """What the funnel leaves of a shortlist (S,), at least `least` rows; all of it without one."""
        if not self.parameters.get("funnel"):
            return rows
        return funnel(vector, item, bias, rows, self.prefix, least)

    def search_one(self, vector: Floats, k: int, selection: Selection | None = None) -> Rows:
        """The same for one query (D,), for who wants it soon: what can be prepared is kept."""
        k = min(k, len(self.rows))
        if k == 0:
            return np.zeros(0, np.int64)
        if self.prefix:
            vector = shorter(vector[None], self.prefix)[0]
        query = getattr(self._own, "query", None)
        if query is None:
            query = np.zeros((1, len(vector)), np.float32)
            if self.index.d > len(vector):
                query = with_bias(query, np.ones(1, np.float32))
            self._own.query = query
        query[0, : len(vector)] = vector
        if selection is not None and selection.in_list is not None:
            line = self._among(query, k, selection, selection.in_list)
        else:
            held = self._kept if selection is None else selection.kept
            key = self.parameters.get("nprobe", 0)
            if key not in held:
                held[key] = self._parameters(selection)
            line = self.index.search(query, k, params=held[key])[1][0]
        return self.rows[line if line[-1] >= 0 else line[line >= 0]]

    def _among(self, query: Floats, k: int, selection: Selection, in_list: Rows) -> Rows:
        """Positions of the k best selected rows in the nearest lists, as many as hold the `needed` selected ones.

        So many are looked at however they lie to the query, near to it or far.
        """
        nprobe, nlist = self.parameters["nprobe"], self.parameters["nlist"]
        needed = self.needed(selection.n_rows)
        lists = min(nlist, math.ceil(2 * nprobe * len(self.rows) / max(1, selection.n_rows)))
        while True:
            near, centres = self.index.quantizer.search(query, lists)
            held = np.cumsum(in_list[centres[0]])
            if held[-1] >= needed or lists == nlist:
                break
            lists = min(nlist, 4 * lists)
        n = min(lists, max(nprobe, int(np.searchsorted(held, needed)) + 1))
        if n not in selection.kept:
            selection.kept[n] = faiss.SearchParametersIVF(nprobe=n, sel=selection.selector)  # type: ignore[call-arg]
        near, centres = np.ascontiguousarray(near[:, :n]), np.ascontiguousarray(centres[:, :n])
        score, found = np.empty((1, k), np.float32), np.empty((1, k), np.int64)
        arrays = (faiss.swig_ptr(array) for array in (centres, near, score, found))
        self.index.search_preassigned_c(1, faiss.swig_ptr(query), k, *arrays, False, selection.kept[n])
        return found[0]

    def _parameters(self, selection: Selection | None) -> Any:
        if self.kind == "flat":
            return faiss.SearchParameters(**({} if selection is None else {"sel": selection.selector}))
        return faiss.SearchParametersIVF(nprobe=self.parameters["nprobe"])  # type: ignore[call-arg]

    def write(self, path: Path) -> None:
        """Write the FAISS file."""
        faiss.write_index(self.index, str(path))


class Selection:
    """A mask over the indexed rows in the form that FAISS reads; reusable while the mask stays the same.

    in_list: (nlist,) int64, how many rows of each inverted list are selected; None without lists.
    """

    def __init__(self, mask: Mask, in_list: Rows | None) -> None:
        self.in_list = in_list
        self.n_rows = int(mask.sum())
        self.kept: dict[int, Any] = {}
        """FAISS's parameters with this selector, by nprobe."""
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


def read(path: Path, rows: Rows, kind: str, parameters: dict[str, int], recall: float) -> Ann:
    """Read the FAISS file of an index over `rows`.

    Raises:
        IndexFolderError: the file is missing, damaged, or holds another number of vectors.
    """
    try:
        # Mapped and searched in place: versions share pages with the cache, and two of them fit side by side.
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise IndexFolderError(f"{path}: not readable as a FAISS index; build the index again") from error
    if index.ntotal != len(rows):
        raise IndexFolderError(f"{path}: holds {index.ntotal} vectors, indexed_rows.npy {len(rows)}; build it again")
    return Ann(index, rows, kind, parameters, recall)
