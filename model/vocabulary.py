"""Vocabularies: how one column of the items table becomes one-hot columns, each a row of the trainable table."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from numpy.typing import NDArray

from model.config import FeatureConfig

_PATH_SEPARATOR = " > "


@dataclass(frozen=True)
class Vocabulary:
    """What was learned from one column: the values or buckets that are features, in the order of their table rows.

    Args:
        name: the column
        kind: "levels" (every prefix of a path is a value), "value" (one value) or "buckets" (ranges of numbers)
        values: the values of a "levels" or "value" vocabulary, sorted
        bounds: the bounds of "buckets", ascending: bucket i holds the numbers x with bounds[i − 1] ≤ x < bounds[i]
    """

    name: str
    kind: str
    values: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """Number of one-hot columns."""
        return len(self.bounds) + 1 if self.kind == "buckets" else len(self.values)


def fit_vocabulary(
    column: pa.ChunkedArray, name: str, config: FeatureConfig, earlier: Vocabulary | None = None
) -> Vocabulary:
    """Learn a column's vocabulary: quantile buckets of numbers, frequent values of everything else.

    Args:
        column: the column's values, nulls included
        name: the name of the column; "category" is split into the prefixes of its path
        config: number of buckets, and how often a value must occur
        earlier: an earlier vocabulary of the same column; its buckets are kept unless there are more than configured
    """
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        return _fit_buckets(column, name, config.price_buckets, earlier)
    kind = "levels" if name == "category" else "value"
    if kind == "levels":
        _, values = _path_prefixes(column)
    else:
        values = column.drop_null().cast(pa.string())
    counts = pc.value_counts(values)
    frequent = counts.field("values").filter(pc.greater_equal(counts.field("counts"), config.min_level_count))
    return Vocabulary(name, kind, values=tuple(sorted(frequent.to_pylist())))


def one_hot(table: pa.Table, vocabulary: Vocabulary) -> sp.csr_matrix:
    """Return (N, size) float32 CSR, 1 for each value that a row has; a row with a null or unknown value is all zeros.

    Args:
        table: N rows, with the vocabulary's column
        vocabulary: the vocabulary of that column
    """
    n, column = len(table), table[vocabulary.name]
    if vocabulary.kind == "buckets":
        numbers = column.cast(pa.float64()).to_numpy()
        rows = np.flatnonzero(np.isfinite(numbers))
        codes = np.searchsorted(np.array(vocabulary.bounds), numbers[rows], side="right")
    else:
        if vocabulary.kind == "levels":
            rows, values = _path_prefixes(column)
        else:
            rows = np.flatnonzero(~column.is_null().to_numpy())
            values = column.drop_null().cast(pa.string())
        index = pc.index_in(values, pa.array(vocabulary.values, pa.string()))
        known = ~index.is_null().to_numpy(zero_copy_only=False)
        rows, codes = rows[known], index.drop_null().to_numpy()
    return sp.csr_matrix((np.ones(len(rows), np.float32), (rows, codes)), shape=(n, vocabulary.size))


def _fit_buckets(column: pa.ChunkedArray, name: str, buckets: int, earlier: Vocabulary | None) -> Vocabulary:
    numbers = column.drop_null().to_numpy().astype(np.float64)
    numbers = numbers[np.isfinite(numbers)]
    if len(numbers) == 0:
        return Vocabulary(name, "value")
    if earlier is not None and earlier.kind == "buckets" and earlier.size <= buckets:
        return earlier
    inner = np.linspace(0, 1, buckets + 1)[1:-1]
    return Vocabulary(name, "buckets", bounds=tuple(float(b) for b in np.unique(np.quantile(numbers, inner))))


def _path_prefixes(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], pa.Array]:
    """Return the row numbers and the prefixes of all paths: "a > b" counts as "a" and as "a > b"."""
    encoded = column.cast(pa.string()).combine_chunks().dictionary_encode()
    prefixes = []
    for path in encoded.dictionary.to_pylist():
        parts = path.split(_PATH_SEPARATOR)
        prefixes.append([_PATH_SEPARATOR.join(parts[: i + 1]) for i in range(len(parts))])
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(~np.isnan(codes.astype(np.float64)))
    nested = pa.array(prefixes, pa.list_(pa.string())).take(pa.array(codes[rows].astype(np.int64)))
    return np.repeat(rows, pc.list_value_length(nested).to_numpy()), nested.flatten()
