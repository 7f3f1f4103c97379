"""Embeds the whole catalogue with a trained network, in the three roles of docs/artefacts.md."""

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

    For a tail item, the roles `query` and `item` read the row that the encoder's input names: the item's own features
    or, as in training, its group's mean. The role `item_unaveraged` always reads the item's own features; it is for
    candidates with an edge from a viewed item. Neighbour averages are the same in all roles.

    Args:
        graph: the item graph
        network: the trained network
        encoder: rows and neighbours of every item
        prior: (N,) float32 shift of demand, which becomes part of the result
    """
    network.eval()
    tail = np.flatnonzero(graph.is_tail & ~graph.is_cold)
    with torch.no_grad():
        table, own, average = _inputs(network, encoder)
        rows = torch.from_numpy(tail).to(table.device)
        return Embeddings(
            item_ids=graph.item_ids,
            query=_embed_role(network, own, average, "query"),
            item=_embed_role(network, own, average, "item"),
            tail_rows=tail.astype(np.int64),
            item_unaveraged=_embed_role(network, table[rows], average[rows], "item"),
            prior=prior,
        )


@torch.no_grad()
def semantic_ids(network: LightSAGE, encoder: EncoderInput) -> NDArray[np.int64]:
    """Return (N, L) semantic IDs: the codes from which `embed` decodes each item's vector.

    Encoding the finished embeddings could give other codes, because `decode` rescales the sum of the entries.

    Args:
        network: a network with a quantiser
        encoder: rows and neighbours of every item
    """
    assert network.quantizer is not None
    return torch.cat([network.quantizer.encode(vectors) for vectors in _item_vectors(network, encoder)]).cpu().numpy()


@torch.no_grad()
def unquantised(network: LightSAGE, encoder: EncoderInput) -> Tensor:
    """Return (N, D) item vectors before the quantiser.

    Args:
        network: a network with a quantiser
        encoder: rows and neighbours of every item
    """
    return torch.cat([*_item_vectors(network, encoder)])


def _item_vectors(network: LightSAGE, encoder: EncoderInput) -> Iterator[Tensor]:
    network.eval()
    _, own, average = _inputs(network, encoder)
    yield from _vectors(network, own, average, "item")


def _inputs(network: LightSAGE, encoder: EncoderInput) -> tuple[Tensor, Tensor, Tensor]:
    """Return (R, D) features of all rows, and (N, D) own features and (N, D) neighbour averages of the items."""
    table = row_features(network, encoder)
    return table, table[encoder.train_row], propagate_all(encoder, table)


def row_features(network: LightSAGE, encoder: EncoderInput) -> Tensor:
    """Return (R, D) features of all rows, computed chunk by chunk.

    Args:
        network: holds the feature table
        encoder: the rows
    """
    return torch.cat([_features_of_chunk(network, encoder, a) for a in range(0, encoder.num_rows, _CHUNK)])


def _features_of_chunk(network: LightSAGE, encoder: EncoderInput, start: int) -> Tensor:
    stop = min(start + _CHUNK, encoder.num_rows)
    a, b = int(encoder.offsets[start]), int(encoder.offsets[stop])
    return network.features(
        encoder.columns[a:b], encoder.offsets[start:stop] - a, encoder.values[a:b], encoder.dense[start:stop]
    )


def _vectors(network: LightSAGE, own: Tensor, average: Tensor, role: Role) -> Iterator[Tensor]:
    """Yield the network's vectors before quantisation, chunk by chunk."""
    for a in range(0, len(own), _CHUNK):
        yield network(own[a : a + _CHUNK], average[a : a + _CHUNK], role)


def _embed_role(network: LightSAGE, own: Tensor, average: Tensor, role: Role) -> NDArray[np.float32]:
    out, start = np.empty(own.shape, np.float32), 0
    for vectors in _vectors(network, own, average, role):
        if role == "item" and network.quantizer is not None and network.quantizer.started:
            vectors = network.quantizer.decode(network.quantizer.encode(vectors))
        out[start : start + len(vectors)] = vectors.cpu().numpy()
        start += len(vectors)
    return out
