"""Embeddings of the whole catalogue from a trained network, in the three roles of docs/artefacts.md."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.embeddings import Embeddings
from model.encoder_input import EncoderInput, propagate_all
from model.graph import ItemGraph
from model.network import LightSAGE, Role

_CHUNK = 65_536


def embed(graph: ItemGraph, network: LightSAGE, encoder: EncoderInput, prior: NDArray[np.float32]) -> Embeddings:
    """Embed every item, cold ones included.

    `query` and `item` see a tail item by the row that the encoder's input gives it: its group's mean as in training, or
    its own. `item_unaveraged` puts its own features in the self slot, for candidates with a kept edge from the item
    being viewed. The neighbour average is the same in all roles: it reads those same rows. `prior` (N,) is passed on.
    """
    network.eval()
    tail = np.flatnonzero((graph.is_tail) & ~graph.is_cold)
    with torch.no_grad():
        table, own, average = _inputs(network, encoder)
        rows = torch.from_numpy(tail).to(table.device)
        return Embeddings(
            item_ids=graph.item_ids,
            query=_head(network, own, average, "query"),
            item=_head(network, own, average, "item"),
            tail_rows=tail.astype(np.int64),
            item_unaveraged=_head(network, table[rows], average[rows], "item"),
            prior=prior,
        )


@torch.no_grad()
def semantic_ids(network: LightSAGE, encoder: EncoderInput) -> NDArray[np.int64]:
    """(N, L) codes by which `embed` embeds each item of a network with a quantiser.

    Not those of the embeddings that it gives: a decoded vector has another length than the vector that was encoded.
    """
    assert network.quantizer is not None
    return torch.cat([network.quantizer.encode(vectors) for vectors in _items(network, encoder)]).cpu().numpy()


@torch.no_grad()
def unquantised(network: LightSAGE, encoder: EncoderInput) -> Tensor:
    """(N, D) item vectors as they enter a quantiser."""
    return torch.cat([*_items(network, encoder)])


def _items(network: LightSAGE, encoder: EncoderInput) -> Iterator[Tensor]:
    network.eval()
    _, own, average = _inputs(network, encoder)
    yield from _vectors(network, own, average, "item")


def _inputs(network: LightSAGE, encoder: EncoderInput) -> tuple[Tensor, Tensor, Tensor]:
    """(R, D) features of all rows; own features and neighbour averages of the items, (N, D) each."""
    table = row_features(network, encoder)
    return table, table[encoder.train_row], propagate_all(encoder, table)


def row_features(network: LightSAGE, encoder: EncoderInput) -> Tensor:
    """(R, D) features of all rows, without gradients' memory when called under `no_grad`."""
    return torch.cat([_rows(network, encoder, a) for a in range(0, encoder.num_rows, _CHUNK)])


def _rows(network: LightSAGE, encoder: EncoderInput, start: int) -> Tensor:
    stop = min(start + _CHUNK, encoder.num_rows)
    a, b = int(encoder.offsets[start]), int(encoder.offsets[stop])
    return network.features(
        encoder.columns[a:b], encoder.offsets[start:stop] - a, encoder.values[a:b], encoder.dense[start:stop]
    )


def _vectors(network: LightSAGE, own: Tensor, average: Tensor, role: Role) -> Iterator[Tensor]:
    """The network's vectors, not quantised, chunk after chunk."""
    for a in range(0, len(own), _CHUNK):
        yield network(own[a : a + _CHUNK], average[a : a + _CHUNK], role)


def _head(network: LightSAGE, own: Tensor, average: Tensor, role: Role) -> NDArray[np.float32]:
    out, at = np.empty(own.shape, np.float32), 0
    for vectors in _vectors(network, own, average, role):
        if role == "item" and network.quantizer is not None and network.quantizer.started:
            vectors = network.quantizer.decode(network.quantizer.encode(vectors))
        out[at : at + len(vectors)] = vectors.cpu().numpy()
        at += len(vectors)
    return out
