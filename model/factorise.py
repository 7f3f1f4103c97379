"""A feature table without training: the item graph, factorised.

Where the table is fixed, every hop is computed once and only the heads learn: the cheapest way to train, and one that
needs no table in memory while it does.
"""

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.features import FeatureMatrix
from model.propagation import Neighbourhood

Floats = NDArray[np.float32]


def factorised_table(features: FeatureMatrix, neighbours: Neighbourhood, dim: int, seed: int) -> tuple[Tensor, Tensor]:
    """What stands for the trainable table and the content's projection: (V, D) and (F, D) float32.

    An id's row is its item's place in the graph; a feature level's the mean place of its items; the content's
    projection the ridge regression of the places on the content. A random rotation gives every member its share of the
    large eigenvalues.
    """
    place = places(neighbours, dim, seed)
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))[0]
    place = np.asarray(place @ rotation, np.float32)
    count = np.maximum(np.asarray(features.sparse.sum(axis=0)).ravel(), 1e-6)
    table = np.asarray(sp.diags_array(1 / count) @ (features.sparse.T @ place), np.float32)
    dense = features.dense.astype(np.float64)
    ridge = dense.T @ dense + np.eye(dense.shape[1])
    content = np.linalg.solve(ridge, dense.T @ place).astype(np.float32)
    return torch.from_numpy(table), torch.from_numpy(content)


def places(neighbours: Neighbourhood, dim: int, seed: int) -> Floats:
    """(N, D) X with X Xᵀ near S = D^-½ (A + Aᵀ) D^-½, of mean length 1: its largest eigenvalues by size.

    By a randomised range finder with two power iterations (Halko, Martinsson & Tropp 2011).
    """
    n = neighbours.num_items
    directed = sp.csr_matrix((neighbours.weight, neighbours.neighbour, neighbours.indptr), shape=(n, n))
    both = sp.csr_matrix(directed + directed.T)
    scale = sp.diags_array(1 / np.sqrt(np.maximum(np.asarray(both.sum(axis=1)).ravel(), 1e-12)))
    both = sp.csr_matrix(scale @ both @ scale).astype(np.float32)
    sketch = np.random.default_rng(seed).standard_normal((n, min(dim + 10, n))).astype(np.float32)
    basis = sketch
    for _ in range(3):
        basis = _orthonormal(both @ basis)
    values, vectors = np.linalg.eigh(basis.T @ (both @ basis))
    largest = np.argsort(-np.abs(values), kind="stable")[:dim]
    out = np.zeros((n, dim), np.float32)
    out[:, : len(largest)] = basis @ vectors[:, largest] * np.sqrt(np.abs(values[largest]))
    return out / max(float(np.linalg.norm(out, axis=1).mean()), 1e-12)


def _orthonormal(columns: Floats) -> Floats:
    """(N, r) an orthonormal basis of what (N, k) columns span, by their small Gram matrix: much sooner than QR."""
    values, vectors = np.linalg.eigh(columns.T.astype(np.float64) @ columns)
    kept = values > 1e-12 * max(values[-1], 1e-300)
    return np.asarray(columns @ (vectors[:, kept] / np.sqrt(values[kept])).astype(np.float32))
