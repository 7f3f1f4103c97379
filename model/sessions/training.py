"""Training of the session encoder: it learns to predict each item of a session from the items before it."""

import copy
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from model.config import SessionConfig
from model.embeddings import Embeddings
from model.errors import ModelInputError
from model.loss import SoftmaxOptions, expected_counts, sampled_softmax
from model.progress import ProgressCallback
from model.sessions.encoder import SessionEncoder

log = logging.getLogger(__name__)

_PROGRESS_EVERY = 20  # steps
_LEAST_DECAY = 0.02  # the learning rate never falls below this share of its initial value
_SCALE_LR = 10  # learning rate of the mean's weights and the correction's length, as a multiple of the network's
_ENCODE_CHUNK = 4096

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class SessionRows:
    """Sessions as catalogue rows.

    Shapes:
        rows: (E,) int64 catalogue rows, session after session, in the order in which they were viewed
        offsets: (S + 1,) int64 offsets of the sessions in `rows`
    """

    rows: Rows
    offsets: Rows

    def targets(self) -> Rows:
        """Return (P,) positions in `rows` of all targets: every item but the first of its session."""
        first = np.zeros(len(self.rows), bool)
        first[self.offsets[:-1][np.diff(self.offsets) > 0]] = True
        return np.flatnonzero(~first)

    def prefixes(self, targets: Rows, length: int) -> tuple[Rows, NDArray[np.bool_]]:
        """Return the items before each target, most recent last.

        Args:
            targets: (B,) positions in `rows`
            length: the most items of a prefix
        Returns:
            (B, L) catalogue rows, padded in front with 0; (B, L) bool, False for padding
        """
        start = self.offsets[np.searchsorted(self.offsets, targets, side="right") - 1]
        width = int(min(length, (targets - start).max()))
        position = targets[:, None] - np.arange(width, 0, -1)
        present = position >= start[:, None]
        return np.where(present, self.rows[np.maximum(position, 0)], 0), present


@dataclass(frozen=True)
class TrainedSessions:
    """A trained encoder and the items' input vectors, (N, D) float32, role `session_input`."""

    encoder: SessionEncoder
    session_input: NDArray[np.float32]

    def blend(self, share: float) -> "TrainedSessions":
        """Return a copy whose queries are mixed with the initial weighted means.

        `share`, in [0, 1], is the share of the encoder's own queries in the mixture.
        """
        encoder = copy.deepcopy(self.encoder)
        encoder.share.fill_(share)
        return TrainedSessions(encoder, self.session_input)


def train_sessions(
    sessions: SessionRows,
    embeddings: Embeddings,
    config: SessionConfig,
    progress: ProgressCallback | None = None,
    *,
    recency_weight: float = 0.5,
) -> TrainedSessions:
    """Fit a session encoder and the items' input vectors; the vectors of candidates stay as they are.

    Args:
        sessions: the sessions to learn from
        embeddings: the catalogue's embeddings; input vectors start from the query role, and candidates have the vectors
            of the item role
        config: the network and its training
        progress: called every 20 steps
        recency_weight: weight of an item relative to the next item, in the mean from which the encoder starts
    Raises:
        ModelInputError: no session has two items.
    """
    targets = sessions.targets()
    if len(targets) == 0:
        raise ModelInputError("nothing to learn from: no session has two items")
    torch.set_num_threads(config.threads or os.cpu_count() or 1)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        encoder = SessionEncoder(embeddings.item.shape[1], config, recency_weight)
        return _train(encoder, sessions, targets, embeddings, config, progress)


def _train(
    encoder: SessionEncoder,
    sessions: SessionRows,
    targets: Rows,
    embeddings: Embeddings,
    config: SessionConfig,
    progress: ProgressCallback | None,
) -> TrainedSessions:
    item = torch.from_numpy(np.array(embeddings.item, np.float32))
    table = nn.Parameter(torch.from_numpy(np.array(embeddings.query, np.float32)), requires_grad=config.input_lr > 0)
    share = np.bincount(sessions.rows[targets], minlength=len(item)).astype(np.float32) / len(targets)
    target_share = torch.from_numpy(share)
    optimizer = _optimizer(encoder, table, config)
    rng = np.random.default_rng(config.seed)
    batch = min(config.batch_size, len(targets))
    steps = max(1, round(config.max_epochs * (len(targets) // batch)))
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(_LEAST_DECAY, 1 - step / steps))
    batches = _batches(sessions, targets, batch, config.length, rng)
    options = SoftmaxOptions(config.temperature)
    encoder.train()
    for step in range(1, steps + 1):
        chosen = next(batches)
        rows, present = (torch.from_numpy(part) for part in sessions.prefixes(chosen, config.length))
        negatives = rng.integers(0, len(item), config.random_negatives)
        candidates = torch.from_numpy(np.concatenate([sessions.rows[chosen], negatives]))
        query = encoder(table[rows], present)
        counts = expected_counts(target_share, candidates, batch, config.random_negatives)
        loss = sampled_softmax(query, item[candidates], rows[:, -1], candidates, counts, options)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        decay.step()
        if progress and (step % _PROGRESS_EVERY == 0 or step == steps):
            progress(f"step {step}/{steps}, loss {loss.item():.3f}", step / steps)
    return TrainedSessions(encoder.eval(), table.detach().numpy())


def _optimizer(encoder: SessionEncoder, table: nn.Parameter, config: SessionConfig) -> torch.optim.Adam:
    # Every example has a gradient for these few numbers, so they may learn faster.
    scales = [encoder.norm.weight, encoder.recency]
    others = [weight for weight in encoder.parameters() if all(weight is not scale for scale in scales)]
    groups: list[dict[str, Any]] = [
        {"params": others, "lr": config.network_lr},
        {"params": scales, "lr": _SCALE_LR * config.network_lr},
    ]
    if config.input_lr:
        groups.append({"params": [table], "lr": config.input_lr})
    return torch.optim.Adam(groups, fused=True)


def _batches(sessions: SessionRows, targets: Rows, size: int, length: int, rng: np.random.Generator) -> Iterator[Rows]:
    """Yield random batches without end; the prefixes of a batch have similar lengths, so that little is padding."""
    start = np.repeat(sessions.offsets[:-1], np.diff(sessions.offsets))[targets]
    prefix_length = np.minimum(targets - start, length)
    while True:
        order = np.lexsort((rng.random(len(targets)), prefix_length))
        batches = [order[a : a + size] for a in range(0, len(order) - size + 1, size)]
        for number in rng.permutation(len(batches)):
            yield targets[batches[number]]


def encode_prefixes(trained: TrainedSessions, sessions: SessionRows, targets: Rows, length: int) -> NDArray[np.float32]:
    """Return (P, D) query vectors of the prefixes of targets.

    Args:
        trained: the encoder and its input vectors
        sessions: the sessions of the targets
        targets: (P,) positions in `sessions.rows`
        length: the most items of a prefix
    """
    table, out = torch.from_numpy(trained.session_input), []
    with torch.no_grad():
        for a in range(0, len(targets), _ENCODE_CHUNK):
            rows, present = sessions.prefixes(targets[a : a + _ENCODE_CHUNK], length)
            out.append(trained.encoder(table[torch.from_numpy(rows)], torch.from_numpy(present)))
    return torch.cat(out).numpy()
