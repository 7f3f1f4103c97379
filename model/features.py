"""Item features: transforms that are fitted to the items table, and make one sparse and one dense block per item.

The sparse block names the rows of the trainable table that describe an item (its id, category levels, brand and price
bucket). The dense block is fixed content (title vector and given embedding). Training and inference apply the same
fitted transforms, so that an item looks the same in both.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from numpy.typing import NDArray

from model.config import FeatureConfig
from model.errors import ModelInputError
from model.titles import Floats, fit_titles, title_grams, title_vectors
from model.vocabulary import Vocabulary, fit_vocabulary, one_hot

_STANDARD_COLUMNS = ("category", "brand", "price")


@dataclass(frozen=True)
class FeatureMatrix:
    """Features of N items.

    Shapes:
        sparse: (N, V) float32 CSR, one column per row of the trainable table; columns [0, num_ids) are the id table
        dense: (N, F) float32, each block (title, embedding) L2-normalised per item; F may be 0
    """

    sparse: sp.csr_matrix
    dense: Floats
    num_ids: int


@dataclass(frozen=True)
class FittedFeatures:
    """Everything that was learned from the items table; it is saved with the model.

    Shapes:
        title_basis: (2^bits, title_dim) float32; (0, 0) without titles
        title_idf: (2^bits,) float32
    """

    vocabularies: tuple[Vocabulary, ...]
    title_basis: Floats
    title_idf: Floats
    embedding_dim: int

    @property
    def groups(self) -> tuple[tuple[str, int], ...]:
        """Name and number of columns of each feature group: those of the trainable table, then the dense ones."""
        dense = (("title", self.title_basis.shape[1]), ("embedding", self.embedding_dim))
        return tuple((v.name, v.size) for v in self.vocabularies) + tuple(group for group in dense if group[1])

    def transform(self, items: pa.Table, item_ids: pa.Array, with_id: NDArray[np.bool_]) -> FeatureMatrix:
        """Return the features of the items in `item_ids`; an item that the table lacks has at most its id.

        Args:
            items: the items table, in any order
            item_ids: (N,) the items, in the order of the rows
            with_id: (N,) which items have a row of the id table
        Raises:
            ModelInputError: a given embedding has the wrong length, or holds a number that is not finite.
        """
        n = len(item_ids)
        ids = np.flatnonzero(with_id)
        blocks = [sp.csr_matrix((np.ones(len(ids), np.float32), (ids, np.arange(len(ids)))), shape=(n, len(ids)))]
        table = items.take(pc.index_in(item_ids, items["item_id"]))
        blocks += [one_hot(table, vocabulary) for vocabulary in self.vocabularies]
        dense = []
        if self.title_basis.size:
            dense.append(_unit(title_vectors(table["title"], self.title_basis, self.title_idf)))
        if self.embedding_dim:
            dense.append(_unit(_given_embeddings(table, self.embedding_dim)))
        return FeatureMatrix(
            sp.hstack(blocks, format="csr", dtype=np.float32),
            np.ascontiguousarray(np.hstack(dense)) if dense else np.zeros((n, 0), np.float32),
            len(ids),
        )


def fit_features(
    items: pa.Table, config: FeatureConfig, seed: int = 0, earlier: FittedFeatures | None = None
) -> FittedFeatures:
    """Learn vocabularies, price buckets and the title basis from the items table. No event is read.

    Args:
        items: the items table, one row per item
        config: which columns are features, and how finely
        seed: seed of the title basis
        earlier: an earlier model's features. Its buckets are kept unless there are more than configured, and its title
            basis is kept if it has the configured size. A warm start can then use the weights of buckets and titles.
    Raises:
        ModelInputError: a configured column is not in the items table, or an excluded column is neither in the table
            nor a standard column.
    """
    known = {*items.column_names, *_STANDARD_COLUMNS, "title", "embedding"}
    if unknown := [column for column in config.exclude if column not in known]:
        raise ModelInputError(
            f"[model.features] exclude names {unknown[0]!r}, but the items table has {', '.join(items.column_names)}"
        )
    items = items.drop_columns([column for column in config.exclude if column in items.column_names])
    before = {vocabulary.name: vocabulary for vocabulary in earlier.vocabularies} if earlier else {}
    vocabularies = []
    for column in dict.fromkeys((*_STANDARD_COLUMNS, *config.columns)):
        if column in items.column_names:
            vocabularies.append(fit_vocabulary(items[column], column, config, before.get(column)))
        elif column in config.columns:
            raise ModelInputError(
                f"[model.features] columns names {column!r}, "
                f"but the items table has only {', '.join(items.column_names)}"
            )
    basis, idf = _title_basis(items, config, seed, earlier)
    dim = 0
    if "embedding" in items.column_names:
        lengths = pc.list_value_length(items["embedding"]).drop_null()
        dim = int(lengths[0].as_py()) if len(lengths) else 0
    return FittedFeatures(tuple(v for v in vocabularies if v.size), basis, idf, dim)


def _title_basis(
    items: pa.Table, config: FeatureConfig, seed: int, earlier: FittedFeatures | None
) -> tuple[Floats, Floats]:
    bits = config.title_hash_bits
    if "title" not in items.column_names:
        return np.zeros((0, 0), np.float32), np.zeros(0, np.float32)
    if earlier is not None and earlier.title_basis.shape == (1 << bits, config.title_dim):
        return earlier.title_basis, earlier.title_idf
    return fit_titles(title_grams(items["title"], bits), config.title_dim, seed)


def _given_embeddings(table: pa.Table, dim: int) -> Floats:
    """Return (N, dim) embeddings of the table, zero where an item has none."""
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
