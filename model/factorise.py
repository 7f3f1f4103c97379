"""A feature table that is not trained, but comes from a factorisation of the item graph.

With a fixed table, the sums over neighbours are computed once, and the table needs neither gradients nor optimiser
state. This is the cheapest way to train.
"""

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.features import FeatureMatrix
from model.propagation import Neighbourhood

Floats = NDArray[np.float32]

_OVERSAMPLING = 10  # columns of the random sketch beyond the wanted dimensions
_ITERATIONS = 3


def factorised_table(features: FeatureMatrix, neighbours: Neighbourhood, dim: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return a feature table (V, D) and a projection of the content (F, D), both float32, without training.

    The row of an id is the spectral embedding of its item. The row of a feature level is the mean embedding of the
    items that have it. The projection is the ridge regression of the spectral embeddings on the content. A random
    rotation spreads the large eigenvalues over all members.

    Args:
        features: the features of the N items
        neighbours: the kept edges
        dim: D
        seed: seed of the sketch and the rotation
    """
    embedding = spectral_embedding(neighbours, dim, seed)
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))[0]
    embedding = np.asarray(embedding @ rotation, np.float32)
    count = np.maximum(np.asarray(features.sparse.sum(axis=0)).ravel(), 1e-6)
    table = np.asarray(sp.diags_array(1 / count) @ (features.sparse.T @ embedding), np.float32)
    dense = features.dense.astype(np.float64)
    ridge = dense.T @ dense + np.eye(dense.shape[1])
    content = np.linalg.solve(ridge, dense.T @ embedding).astype(np.float32)
    return torch.from_numpy(table), torch.from_numpy(content)


def spectral_embedding(neighbours: Neighbourhood, dim: int, seed: int) -> Floats:
    """Return (N, D) float32 vectors X, of mean length 1, such that X Xᵀ approximates |S| up to a constant factor.

    S = K^-½ (A + Aᵀ) K^-½ is the symmetric graph, normalised by its degrees K. X uses the D eigenvalues of S that are
    largest in absolute value. They are found by subspace iteration from a random sketch, followed by Rayleigh-Ritz
    (Halko, Martinsson & Tropp 2011). `torch.svd_lowrank` takes three times as long to find the same subspace, because
    it uses neither the symmetry of S nor the shortcut of `_orthonormal`.

    Args:
        neighbours: the kept edges
        dim: D; dimensions beyond N are zero
        seed: seed of the sketch
    """
    n = neighbours.num_items
    directed = sp.csr_matrix((neighbours.weight, neighbours.neighbour, neighbours.indptr), shape=(n, n))
    both = sp.csr_matrix(directed + directed.T)
    scale = sp.diags_array(1 / np.sqrt(np.maximum(np.asarray(both.sum(axis=1)).ravel(), 1e-12)))
    both = sp.csr_matrix(scale @ both @ scale).astype(np.float32)
    basis = np.random.default_rng(seed).standard_normal((n, min(dim + _OVERSAMPLING, n))).astype(np.float32)
    for _ in range(_ITERATIONS):
        basis = _orthonormal(both @ basis)
    values, vectors = np.linalg.eigh(basis.T @ (both @ basis))
    largest = np.argsort(-np.abs(values), kind="stable")[:dim]
    out = np.zeros((n, dim), np.float32)
    out[:, : len(largest)] = basis @ vectors[:, largest] * np.sqrt(np.abs(values[largest]))
    return out / max(float(np.linalg.norm(out, axis=1).mean()), 1e-12)


def _orthonormal(columns: Floats) -> Floats:
    """Return an orthonormal basis (N, r) of (N, k) columns, from their small Gram matrix; this is faster than QR."""
    values, vectors = np.linalg.eigh(columns.T.astype(np.float64) @ columns)
    significant = values > 1e-12 * max(values[-1], 1e-300)
    return np.asarray(columns @ (vectors[:, significant] / np.sqrt(values[significant])).astype(np.float32))
