"""The fixed feature table compared with a dense eigendecomposition."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray

from model.factorise import factorised_table, spectral_embedding
from model.features import FeatureMatrix
from model.propagation import Neighbourhood

N = 30


@pytest.fixture
def neighbours() -> Neighbourhood:
    """Three clusters of ten items, with heavy edges within and light ones between them; the last item has no edge."""
    rng = np.random.default_rng(1)
    dense = np.where(np.arange(N)[:, None] // 10 == np.arange(N) // 10, rng.random((N, N)), 0.02 * rng.random((N, N)))
    np.fill_diagonal(dense, 0)
    dense[-1] = dense[:, -1] = 0
    matrix = sp.csr_matrix(dense.astype(np.float32))
    total = np.asarray(matrix.sum(axis=1)).ravel().astype(np.float32)
    return Neighbourhood(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64), matrix.data, total)


def slow_products(neighbours: Neighbourhood, dim: int) -> NDArray[np.float64]:
    """Return Σ |λ| v vᵀ over the `dim` eigenvalues λ that are largest in absolute value, with their eigenvectors v."""
    a = sp.csr_matrix((neighbours.weight, neighbours.neighbour, neighbours.indptr), shape=(N, N)).toarray()
    both = a + a.T
    degree = np.maximum(both.sum(1), 1e-12)
    values, vectors = np.linalg.eigh(both / np.sqrt(degree[:, None] * degree))
    largest = np.argsort(-np.abs(values))[:dim]
    return (vectors[:, largest] * np.abs(values[largest])) @ vectors[:, largest].T


def test_places_are_the_largest_eigenvectors(neighbours: Neighbourhood) -> None:
    """Their products agree to a few percent if the sketch is smaller than the graph, and exactly otherwise."""
    for dim, tolerance in ((3, 3e-2), (20, 1e-5), (N, 1e-5)):
        embedding = spectral_embedding(neighbours, dim, seed=0)
        products = slow_products(neighbours, dim)
        scale = np.sqrt(np.maximum(np.diag(products), 0)).mean()
        np.testing.assert_allclose(embedding @ embedding.T, products / scale**2, atol=tolerance)
        assert np.linalg.norm(embedding, axis=1).mean() == pytest.approx(1, abs=1e-4)


def test_more_dimensions_than_items_are_zeros(neighbours: Neighbourhood) -> None:
    assert spectral_embedding(neighbours, N + 5, seed=0).shape == (N, N + 5)
    assert not spectral_embedding(neighbours, N + 5, seed=0)[:, N:].any()


def test_a_level_lies_amid_its_items_and_content_follows_them(neighbours: Neighbourhood) -> None:
    """The features are ids of the first 29 items, one level per cluster, and content that names the cluster."""
    cluster = np.arange(N) // 10
    ids, levels = np.eye(N, N - 1), np.eye(3)[cluster]
    features = FeatureMatrix(
        sp.csr_matrix(np.hstack([ids, levels]).astype(np.float32)), levels.astype(np.float32), num_ids=N - 1
    )
    table, content = (part.numpy() for part in factorised_table(features, neighbours, 8, seed=0))
    embedding = spectral_embedding(neighbours, 8, seed=0)
    np.testing.assert_allclose(table[: N - 1] @ table[: N - 1].T, (embedding @ embedding.T)[:-1, :-1], atol=1e-4)
    for c in range(3):
        mean = table[: N - 1][cluster[:-1] == c].sum(0) / 10  # the item without neighbours counts as zero
        np.testing.assert_allclose(table[N - 1 + c], mean, atol=1e-5)
        np.testing.assert_allclose(content[c], mean * 10 / 11, atol=1e-5)  # ridge counts as an 11th item
