"""Item features: fitted transforms from the items table to one sparse and one dense block per item.

The sparse block says which rows of the trainable table describe an item (its id, category levels, brand, price bucket);
the dense block is fixed content (title, given embeddings). Fitting and applying are two steps of one code path, so that
an item looks the same in training and at inference.
"""

import itertools
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from numpy.typing import NDArray

from model.config import FeatureConfig
from model.errors import ModelInputError

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Vocabulary:
    """One level column: its kept values, in table order, and where its rows start in the trainable table."""

    name: str
    kind: str  # "levels" (split by " > "), "value" or "buckets"
    values: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """Rows of the trainable table that the column takes."""
        return len(self.bounds) + 1 if self.kind == "buckets" else len(self.values)


@dataclass(frozen=True)
class FeatureMatrix:
    """Features of N items.

    Shapes:
        sparse: (N, V) float32 CSR over the rows of the trainable table; columns [0, num_ids) are the id table
        dense: (N, F) float32, each given block L2-normalised per item; F may be 0
    """

    sparse: sp.csr_matrix
    dense: Floats
    num_ids: int


@dataclass(frozen=True)
class FittedFeatures:
    """Everything that was learned from the items table; travels inside the model artefact."""

    vocabularies: tuple[Vocabulary, ...]
    title_basis: Floats  # (2^bits, title_dim); (0, 0) without titles
    title_idf: Floats  # (2^bits,)
    embedding_dim: int

    @property
    def groups(self) -> tuple[tuple[str, int], ...]:
        """Name and number of columns of each feature group: those of the trainable table, then the dense ones."""
        dense = (("title", self.title_basis.shape[1]), ("embedding", self.embedding_dim))
        return tuple((v.name, v.size) for v in self.vocabularies) + tuple(group for group in dense if group[1])

    def transform(self, items: pa.Table, item_ids: pa.Array, with_id: NDArray[np.bool_]) -> FeatureMatrix:
        """Features of the items in `item_ids` order; an item that the table does not hold has its id alone.

        Args:
            items: the catalogue table, any order
            item_ids: (N,) the row order
            with_id: (N,) which items have a row of the id table
        """
        n = len(item_ids)
        ids = np.flatnonzero(with_id)
        blocks = [sp.csr_matrix((np.ones(len(ids), np.float32), (ids, np.arange(len(ids)))), shape=(n, len(ids)))]
        table = items.take(pc.index_in(item_ids, items["item_id"]))
        blocks += [_one_hot(table, vocabulary) for vocabulary in self.vocabularies]
        dense = []
        if self.title_basis.size:
            grams = title_grams(table["title"], int(np.log2(len(self.title_basis))))
            dense.append(_unit(np.asarray(grams @ (self.title_basis * self.title_idf[:, None]), np.float32)))
        if self.embedding_dim:
            dense.append(_unit(_embedding(table, self.embedding_dim)))
        return FeatureMatrix(
            sp.hstack(blocks, format="csr", dtype=np.float32),
            np.ascontiguousarray(np.hstack(dense)) if dense else np.zeros((n, 0), np.float32),
            len(ids),
        )


def fit_features(
    items: pa.Table, config: FeatureConfig, seed: int = 0, earlier: FittedFeatures | None = None
) -> FittedFeatures:
    """Learn vocabularies, price buckets and the title basis from the catalogue (no event is read).

    Buckets and title basis are the `earlier` ones, where there are any of the configured size: they have no names by
    which weights could be joined.

    Raises:
        ModelInputError: a configured feature column, or one that is excluded, is not in the items table.
    """
    known = {*items.column_names, "category", "brand", "price", "title", "embedding"}
    if unknown := [column for column in config.exclude if column not in known]:
        raise ModelInputError(
            f"[model.features] exclude names {unknown[0]!r}, but the items table has {', '.join(items.column_names)}"
        )
    items = items.drop_columns([column for column in config.exclude if column in items.column_names])
    vocabularies = []
    for column in dict.fromkeys(("category", "brand", "price", *config.columns)):
        if column in items.column_names:
            vocabularies.append(_fit_column(items[column], column, config, earlier))
        elif column in config.columns:
            raise ModelInputError(
                f"[model.features] columns names {column!r}, "
                f"but the items table has only {', '.join(items.column_names)}"
            )
    bits = config.title_hash_bits
    basis, idf = np.zeros((0, 0), np.float32), np.zeros(0, np.float32)
    if "title" in items.column_names:
        if earlier is not None and earlier.title_basis.shape == (1 << bits, config.title_dim):
            basis, idf = earlier.title_basis, earlier.title_idf
        else:
            basis, idf = _fit_titles(title_grams(items["title"], bits), config.title_dim, seed)
    dim = 0
    if "embedding" in items.column_names:
        lengths = pc.list_value_length(items["embedding"]).drop_null()
        dim = int(lengths[0].as_py()) if len(lengths) else 0
    return FittedFeatures(tuple(v for v in vocabularies if v.size), basis, idf, dim)


def title_grams(titles: pa.ChunkedArray, bits: int) -> sp.csr_matrix:
    """(N, 2^bits) float32 CSR of hashed word 1- and 2-grams, each counted once; crc32, so the same on every machine."""
    indices: list[int] = []
    indptr = [0]
    mask = (1 << bits) - 1
    for title in titles.to_pylist():
        indices.extend({zlib.crc32(gram.encode()) & mask for gram in _grams(title or "")})
        indptr.append(len(indices))
    data = np.ones(len(indices), np.float32)
    matrix = sp.csr_matrix(
        (data, np.array(indices, np.int64), np.array(indptr, np.int64)), shape=(len(titles), 1 << bits)
    )
    matrix.sort_indices()
    return matrix


def _grams(title: str) -> Iterable[str]:
    words = title.casefold().split()
    yield from words
    yield from (f"{a} {b}" for a, b in itertools.pairwise(words))


def _fit_column(
    column: pa.ChunkedArray, name: str, config: FeatureConfig, earlier: FittedFeatures | None
) -> Vocabulary:
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        numbers = column.drop_null().to_numpy().astype(np.float64)
        numbers = numbers[np.isfinite(numbers)]
        if len(numbers) == 0:
            return Vocabulary(name, "value")
        for before in earlier.vocabularies if earlier else ():
            if before.name == name and before.kind == "buckets" and before.size <= config.price_buckets:
                return before
        inner = np.linspace(0, 1, config.price_buckets + 1)[1:-1]
        return Vocabulary(name, "buckets", bounds=tuple(float(b) for b in np.unique(np.quantile(numbers, inner))))
    kind = "levels" if name == "category" else "value"
    if kind == "levels":
        _, values = _levels(column)
    else:
        values = column.drop_null().cast(pa.string())
    counts = pc.value_counts(values)
    kept = counts.field("values").filter(pc.greater_equal(counts.field("counts"), config.min_level_count))
    return Vocabulary(name, kind, values=tuple(sorted(kept.to_pylist())))


def _levels(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], pa.Array]:
    """A path counts as each of its prefixes: "a > b" is "a" and "a > b"."""
    encoded = column.cast(pa.string()).combine_chunks().dictionary_encode()
    prefixes = []
    for path in encoded.dictionary.to_pylist():
        parts = path.split(" > ")
        prefixes.append([" > ".join(parts[: i + 1]) for i in range(len(parts))])
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(~np.isnan(codes.astype(np.float64)))
    nested = pa.array(prefixes, pa.list_(pa.string())).take(pa.array(codes[rows].astype(np.int64)))
    return np.repeat(rows, pc.list_value_length(nested).to_numpy()), nested.flatten()


def _one_hot(table: pa.Table, vocabulary: Vocabulary) -> sp.csr_matrix:
    n, column = len(table), table[vocabulary.name]
    if vocabulary.kind == "buckets":
        numbers = column.cast(pa.float64()).to_numpy()
        rows = np.flatnonzero(np.isfinite(numbers))
        codes = np.searchsorted(np.array(vocabulary.bounds), numbers[rows], side="right")
    else:
        if vocabulary.kind == "levels":
            rows, values = _levels(column)
        else:
            rows = np.flatnonzero(~column.is_null().to_numpy())
            values = column.drop_null().cast(pa.string())
        found = pc.index_in(values, pa.array(vocabulary.values, pa.string()))
        known = ~found.is_null().to_numpy(zero_copy_only=False)
        rows, codes = rows[known], found.drop_null().to_numpy()
    return sp.csr_matrix((np.ones(len(rows), np.float32), (rows, codes)), shape=(n, vocabulary.size))


def _fit_titles(grams: sp.csr_matrix, dim: int, seed: int) -> tuple[Floats, Floats]:
    """Truncated SVD of the tf-idf matrix by a randomised range finder (Halko et al. 2011, two power iterations)."""
    n = grams.shape[0]
    frequency = np.bincount(grams.indices, minlength=grams.shape[1])
    idf = np.where(frequency > 0, np.log((1 + n) / (1 + frequency)) + 1, 0).astype(np.float32)
    tfidf = grams @ sp.diags_array(idf)
    dim = min(dim, n, int((frequency > 0).sum()))
    if dim == 0:
        return np.zeros((0, 0), np.float32), np.zeros(0, np.float32)
    sketch = np.random.default_rng(seed).standard_normal((grams.shape[1], min(dim + 10, n))).astype(np.float32)
    for _ in range(2):
        sketch = np.linalg.qr(tfidf.T @ np.linalg.qr(tfidf @ sketch)[0])[0]
    _, _, right = np.linalg.svd(np.linalg.qr(tfidf @ sketch)[1], full_matrices=False)
    return np.ascontiguousarray((sketch @ right.T)[:, :dim], np.float32), idf


def _embedding(table: pa.Table, dim: int) -> Floats:
    """(N, dim) given embeddings, zero where an item has none."""
    column = table["embedding"]
    out = np.zeros((len(column), dim), np.float32)
    lengths = pc.list_value_length(column).to_numpy()
    wrong = np.flatnonzero(np.isfinite(lengths) & (lengths != dim))
    if len(wrong):
        raise ModelInputError(
            f"embeddings have {dim} numbers, but that of item {table['item_id'][wrong[0]].as_py()!r} has "
            f"{int(lengths[wrong[0]])}; give all items embeddings of one length"
        )
    rows = np.flatnonzero(lengths == dim)
    out[rows] = pc.list_flatten(column).to_numpy().reshape(-1, dim)
    broken = np.flatnonzero(~np.isfinite(out).all(axis=1))
    if len(broken):
        raise ModelInputError(
            f"the embedding of item {table['item_id'][broken[0]].as_py()!r} holds a number that is not finite; "
            "correct it or leave the embedding out"
        )
    return out


def _unit(block: Floats) -> Floats:
    return block / np.maximum(np.linalg.norm(block, axis=1, keepdims=True), 1e-12)
