"""The approximate index over the advertised rows; `tuning` builds it. Only this module sees FAISS's -1 for no row."""

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

from retrieval.ann.matryoshka import funnel, unit_prefix
from retrieval.arrays import Floats, Mask, Rows
from retrieval.errors import IndexFolderError

# How many of FAISS's parameter objects a selection caches, one for each nprobe, and about how many bytes each takes.
_CACHED_PARAMETERS, _PARAMETERS_BYTES = 64, 1_000
FILTERED_PERCENT = (30, 10, 3)
"""Percentages of eligible rows for which an index is tuned, besides 100."""


def use_threads(threads: int) -> None:
    """Set the number of threads of FAISS (OpenMP) and of numpy's BLAS; more than 1 is faster only for batches.

    On a host that is busy with other work, a second BLAS thread can lengthen a matrix product from 0.1 ms to 8 ms.
    """
    faiss.omp_set_num_threads(threads)
    threadpool_limits(threads, user_api="blas")


@contextmanager
def workers(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of threads that search and multiply matrices on one core each, so that none waits for another."""
    # FAISS has a thread count for each calling thread, BLAS has one for the whole process.
    with (
        threadpool_limits(1, user_api="blas"),
        ThreadPoolExecutor(threads, initializer=faiss.omp_set_num_threads, initargs=(1,)) as pool,
    ):
        yield pool


@dataclass(frozen=True, eq=False)
class Ann:
    """An approximate index over `rows` (I,) int64, ascending; FAISS's ids are positions in `rows`.

    kind: "flat" (exact), or inverted lists of 8-bit vectors ("ivf_sq8") or of product-quantised ones ("ivf_pq4").

    parameters, where they apply:
        nlist, nprobe: how many inverted lists there are, and how many of them are searched.
        visited: how many rows the searched lists hold, on average.
        visited_P: how many eligible rows must be visited where P per cent of the rows are eligible.
        shortlist: for the k best rows, this many times k rows are retrieved and then ranked exactly.
        prefix, dim: how many dimensions are indexed, and how many the whole vectors have (see `matryoshka`).
        funnel: 1 if the shortlist is halved by longer prefixes.

    recall: recall@100 of the whole search against exact search, measured when the index was built.
    """

    index: Any
    rows: Rows
    kind: str
    parameters: dict[str, int]
    recall: float
    _thread: threading.local = field(default_factory=threading.local, repr=False)
    _parameters_of: dict[int, Any] = field(default_factory=dict, repr=False)

    @property
    def shortlist(self) -> int:
        """How many times k rows a search should retrieve, because the order that it finds is only approximate."""
        return self.parameters.get("shortlist", 3)

    @property
    def prefix(self) -> int:
        """How many dimensions are indexed; 0 = all."""
        return self.parameters.get("prefix", 0)

    @property
    def visited(self) -> int:
        """How many rows a search without a selection visits."""
        if self.kind == "flat":
            return len(self.rows)
        share = self.parameters["nprobe"] / self.parameters["nlist"]
        return self.parameters.get("visited", math.ceil(share * len(self.rows)))

    def exact_is_cheaper(self, eligible: int, *, gathered: bool, outside: int = 0) -> bool:
        """Return whether an exact scan of the eligible rows costs less than a search.

        The unit of cost is skipping a row of a list (about 10 ns). For each 64 dimensions, scoring a row costs 1 if the
        vectors lie side by side, and 1.4 in a list. A row that has to be fetched costs 3 plus 2.5 for each 64
        dimensions. The figures are fitted to benchmarks/filters.py.

        Args:
            eligible: how many indexed rows may be returned.
            gathered: whether the vectors of the eligible rows lie side by side in memory.
            outside: how many further eligible rows the index does not hold; a search has to score them exactly as well.
        """
        indexed, whole = self.index.d / 64, self.parameters.get("dim", self.index.d) / 64
        fetched = 3 + 2.5 * whole
        scan = (eligible + outside) * (whole if gathered else fetched)
        visited = self.rows_to_visit(eligible)
        skipped = visited * (len(self.rows) - eligible) / max(1, eligible)
        return scan <= 1.4 * indexed * visited + skipped + fetched * outside

    def rows_to_visit(self, selected: int) -> int:
        """Return how many selected rows a search must visit, interpolated between the measured shares of selected rows.

        The number depends on the share: if only a tenth of the rows is selected, the nearest selected rows are further
        away, and more rows lie at that distance.
        """
        share = max(selected, 1) / max(1, len(self.rows))
        return min(selected, math.ceil(math.exp(np.interp(math.log(share), *self._visited_by_share))))

    @cached_property
    def _visited_by_share(self) -> NDArray[np.float64]:
        """(2, measured shares): the logarithms of the share of eligible rows, ascending, and of the rows to visit."""
        shares = [(1.0, self.visited)]
        for percent in FILTERED_PERCENT:
            if measured := self.parameters.get(f"visited_{percent}"):
                shares.insert(0, (percent / 100, measured))
        return np.log(np.array(shares, np.float64)).T

    @cached_property
    def list_of(self) -> NDArray[np.int32]:
        """(I,) int32, the inverted list of each indexed row."""
        numbers, lists = np.zeros(len(self.rows), np.int32), self.index.invlists
        for number in range(self.parameters["nlist"]):
            size = lists.list_size(number)
            if size:
                numbers[faiss.rev_swig_ptr(lists.get_ids(number), size)] = number
        return numbers

    def selection(self, eligible: Mask) -> Selection:
        """Return the indexed rows that a search may return, given a mask (N,) bool over the rows of the catalogue."""
        mask = eligible[self.rows]
        if self.kind == "flat":
            return Selection(mask, None)
        return Selection(mask, np.bincount(self.list_of[mask], minlength=self.parameters["nlist"]))

    def search(self, queries: Floats, k: int, selection: Selection | None = None) -> list[Rows]:
        """Search for each query; a row that is not selected is never returned.

        Args:
            queries: (n, D) float32.
            k: length of the lists.
            selection: the rows that may be returned; None = all indexed rows.

        Returns:
            Up to k rows for each query, best first by approximate score.
        """
        k = min(k, len(self.rows))
        if k == 0:
            return [np.zeros(0, np.int64)] * len(queries)
        if selection is not None and self.kind != "flat":
            return [self.search_one(query, k, selection) for query in queries]
        parameters = self._search_parameters(selection)
        _, positions = self.index.search(self.as_indexed(queries), k, params=parameters)
        return [self.rows[line[line >= 0]] for line in positions]

    def as_indexed(self, queries: Floats) -> Floats:
        """Return queries (n, D) in the form of the indexed vectors: their prefix, with a 1 that multiplies the bias."""
        if self.prefix:
            queries = unit_prefix(queries, self.prefix)
        if self.index.d > queries.shape[1]:
            queries = with_bias(queries, np.ones(len(queries), np.float32))
        return np.ascontiguousarray(queries)

    def narrow(self, rows: Rows, vector: Floats, item: Floats, bias: Floats, least: int) -> Rows:
        """Shorten a shortlist (S,) int64 by the funnel, if the index has one, but never below `least` rows.

        The arguments are those of `matryoshka.funnel`.
        """
        if not self.parameters.get("funnel"):
            return rows
        return funnel(vector, item, bias, rows, self.prefix, least)

    def search_one(self, vector: Floats, k: int, selection: Selection | None = None) -> Rows:
        """Do the same as `search` for one query (D,), with the lowest latency: buffers and parameters are reused."""
        k = min(k, len(self.rows))
        if k == 0:
            return np.zeros(0, np.int64)
        if self.prefix:
            vector = unit_prefix(vector[None], self.prefix)[0]
        query = getattr(self._thread, "query", None)
        if query is None:
            query = np.zeros((1, len(vector)), np.float32)
            if self.index.d > len(vector):
                query = with_bias(query, np.ones(1, np.float32))
            self._thread.query = query
        query[0, : len(vector)] = vector
        if selection is not None and selection.in_list is not None:
            positions = self._search_selected(query, k, selection, selection.in_list)
        else:
            parameters_of = self._parameters_of if selection is None else selection.parameters_of
            nprobe = self.parameters.get("nprobe", 0)
            if nprobe not in parameters_of:
                parameters_of[nprobe] = self._search_parameters(selection)
            positions = self.index.search(query, k, params=parameters_of[nprobe])[1][0]
        return self.rows[positions if positions[-1] >= 0 else positions[positions >= 0]]

    def _search_selected(self, query: Floats, k: int, selection: Selection, in_list: Rows) -> Rows:
        """Return positions of the k best selected rows in the nearest lists.

        The search reads nprobe lists, or more if these do not hold `rows_to_visit` selected rows. So the number of
        lists adapts to where the selected rows lie.
        """
        nprobe, nlist = self.parameters["nprobe"], self.parameters["nlist"]
        needed = self.rows_to_visit(selection.n_rows)
        lists = min(nlist, math.ceil(2 * nprobe * len(self.rows) / max(1, selection.n_rows)))
        while True:
            near, centres = self.index.quantizer.search(query, lists)
            selected = np.cumsum(in_list[centres[0]])
            if selected[-1] >= needed or lists == nlist:
                break
            lists = min(nlist, 4 * lists)
        n = min(lists, max(nprobe, int(np.searchsorted(selected, needed)) + 1))
        parameters = selection.parameters_of.get(n)
        if parameters is None:
            parameters = faiss.SearchParametersIVF(nprobe=n, sel=selection.selector)  # type: ignore[call-arg]
            if len(selection.parameters_of) < _CACHED_PARAMETERS:
                selection.parameters_of[n] = parameters
        near, centres = np.ascontiguousarray(near[:, :n]), np.ascontiguousarray(centres[:, :n])
        score, positions = np.empty((1, k), np.float32), np.empty((1, k), np.int64)
        arrays = (faiss.swig_ptr(array) for array in (centres, near, score, positions))
        self.index.search_preassigned_c(1, faiss.swig_ptr(query), k, *arrays, False, parameters)
        return positions[0]

    def _search_parameters(self, selection: Selection | None) -> Any:
        if self.kind == "flat":
            return faiss.SearchParameters(**({} if selection is None else {"sel": selection.selector}))
        return faiss.SearchParametersIVF(nprobe=self.parameters["nprobe"])  # type: ignore[call-arg]

    def write(self, path: Path) -> None:
        """Write the FAISS file."""
        faiss.write_index(self.index, str(path))


class Selection:
    """A mask over the indexed rows in the form that FAISS reads; it can be reused as long as the mask is the same.

    n_rows: how many rows are selected. in_list: (nlist,) int64, how many rows of each inverted list are selected; None
    if there are no lists. selector: FAISS's form of the mask. parameters_of: FAISS's search parameters with the
    selector, by nprobe.
    """

    def __init__(self, mask: Mask, in_list: Rows | None) -> None:
        self.in_list = in_list
        self.n_rows = int(mask.sum())
        self.parameters_of: dict[int, Any] = {}
        # FAISS owns neither the bits nor the selector: both must live as long as a search that uses them.
        self._bits = np.packbits(mask, bitorder="little")
        self.selector = faiss.IDSelectorBitmap(len(mask), faiss.swig_ptr(self._bits))

    @property
    def nbytes(self) -> int:
        """The bytes of memory that the selection takes."""
        lists = 0 if self.in_list is None else self.in_list.nbytes
        return self._bits.nbytes + lists + _CACHED_PARAMETERS * _PARAMETERS_BYTES


def with_bias(vectors: Floats, bias: Floats) -> Floats:
    """Append the bias as one more dimension, so that an inner product contains it.

    Args:
        vectors: (n, D) float32.
        bias: (n,) float32.

    Returns:
        (n, D') float32; D' is D + 1 rounded up to a multiple of 16, at which FAISS reads 8-bit codes fastest. The rest
            is zeros.
    """
    n, dim = vectors.shape
    wider = np.zeros((n, -(-(dim + 1) // 16) * 16), np.float32)
    wider[:, :dim], wider[:, dim] = vectors, bias
    return wider


def read(path: Path, rows: Rows, kind: str, parameters: dict[str, int], recall: float) -> Ann:
    """Read the FAISS file of an index.

    Args:
        path: the file.
        rows: (I,) int64, ascending, the rows that the index was built over.
        kind: as in `Ann`.
        parameters: as in `Ann`.
        recall: as in `Ann`.

    Raises:
        IndexFolderError: the file is missing or damaged, or its number of vectors differs from that of `rows`.
    """
    try:
        # The file is memory-mapped and searched in place, in the page cache, so that two versions fit into memory.
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise IndexFolderError(f"{path}: not readable as a FAISS index; build the index again") from error
    if index.ntotal != len(rows):
        raise IndexFolderError(
            f"{path}: holds {index.ntotal} vectors, but indexed_rows.npy has {len(rows)} rows; build the index again"
        )
    return Ann(index, rows, kind, parameters, recall)
