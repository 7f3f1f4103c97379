"""Training of the session encoder: each item of a session from those before it, by the loss of the item encoder."""

import copy
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from model.config import SessionConfig
from model.embeddings import Embeddings
from model.errors import ModelInputError
from model.loss import expected_counts, sampled_softmax
from model.sessions.encoder import SessionEncoder

log = logging.getLogger(__name__)

Rows = NDArray[np.int64]
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class SessionRows:
    """Sessions as catalogue rows: rows (E,) int64 in order; offsets (S + 1,) int64."""

    rows: Rows
    offsets: Rows

    def ends(self) -> Rows:
        """Places (P,) in `rows` of all targets: every item that has another before it."""
        first = np.zeros(len(self.rows), bool)
        first[self.offsets[:-1][np.diff(self.offsets) > 0]] = True
        return np.flatnonzero(~first)

    def before(self, ends: Rows, length: int) -> tuple[Rows, NDArray[np.bool_]]:
        """(B, L) the up to `length` rows before each target, padded in front with 0, and which are there."""
        start = self.offsets[np.searchsorted(self.offsets, ends, side="right") - 1]
        width = int(min(length, (ends - start).max()))
        place = ends[:, None] - np.arange(width, 0, -1)
        present = place >= start[:, None]
        return np.where(present, self.rows[np.maximum(place, 0)], 0), present


@dataclass(frozen=True)
class TrainedSessions:
    """The encoder and (N, D) float32 input vectors, role `session_input`."""

    encoder: SessionEncoder
    session_input: NDArray[np.float32]

    def blend(self, share: float) -> "TrainedSessions":
        """The same, but what it learned is followed by a share in [0, 1] only, the rest being the weighted mean."""
        encoder = copy.deepcopy(self.encoder)
        encoder.share.fill_(share)
        return TrainedSessions(encoder, self.session_input)


def train_sessions(
    sessions: SessionRows,
    embeddings: Embeddings,
    config: SessionConfig,
    progress: Progress | None = None,
    *,
    recency_weight: float = 0.5,
) -> TrainedSessions:
    """Fit the encoder and its input vectors; the item side stays as it is.

    `recency_weight`: that of the mean that it starts from, and is mixed with.

    Raises:
        ModelInputError: no session has two items.
    """
    ends = sessions.ends()
    if len(ends) == 0:
        raise ModelInputError("no session has two items: there is nothing to learn from")
    torch.set_num_threads(config.threads or os.cpu_count() or 1)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        encoder = SessionEncoder(embeddings.item.shape[1], config, recency_weight)
        return _train(encoder, sessions, ends, embeddings, config, progress)


def _train(
    encoder: SessionEncoder,
    sessions: SessionRows,
    ends: Rows,
    embeddings: Embeddings,
    config: SessionConfig,
    progress: Progress | None,
) -> TrainedSessions:
    item = torch.from_numpy(np.array(embeddings.item, np.float32))
    table = nn.Parameter(torch.from_numpy(np.array(embeddings.query, np.float32)), requires_grad=config.input_lr > 0)
    share = np.bincount(sessions.rows[ends], minlength=len(item)).astype(np.float32) / len(ends)
    target_share = torch.from_numpy(share)
    # How far the session turns the mean, and what counts in it: few numbers, that every example moves.
    scales = [encoder.norm.weight, encoder.recency]
    others = [weight for weight in encoder.parameters() if all(weight is not scale for scale in scales)]
    learning: list[dict[str, Any]] = [
        {"params": others, "lr": config.network_lr},
        {"params": scales, "lr": 10 * config.network_lr},
    ]
    if config.input_lr:
        learning.append({"params": [table], "lr": config.input_lr})
    optimiser = torch.optim.Adam(learning, fused=True)
    rng = np.random.default_rng(config.seed)
    batch = min(config.batch_size, len(ends))
    steps = max(1, round(config.max_epochs * (len(ends) // batch)))
    decay = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: max(0.02, 1 - step / steps))
    stream = _batches(sessions, ends, batch, config.length, rng)
    encoder.train()
    for step in range(1, steps + 1):
        chosen = next(stream)
        rows, present = (torch.from_numpy(part) for part in sessions.before(chosen, config.length))
        targets = sessions.rows[chosen]
        candidates = torch.from_numpy(np.concatenate([targets, rng.integers(0, len(item), config.random_negatives)]))
        query = encoder(table[rows], present)
        counts = expected_counts(target_share, candidates, batch, config.random_negatives)
        loss = sampled_softmax(query, item[candidates], rows[:, -1], candidates, counts, config.temperature)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        decay.step()
        if progress and (step % 20 == 0 or step == steps):
            progress(f"step {step}/{steps}, loss {loss.item():.3f}", step / steps)
    return TrainedSessions(encoder.eval(), table.detach().numpy())


def _batches(sessions: SessionRows, ends: Rows, size: int, length: int, rng: np.random.Generator) -> Iterator[Rows]:
    """Shuffled targets, those of a batch with about as much before them: padding would be most of the work."""
    start = np.repeat(sessions.offsets[:-1], np.diff(sessions.offsets))[ends]
    long = np.minimum(ends - start, length)
    while True:
        order = np.lexsort((rng.random(len(ends)), long))
        batches = [order[a : a + size] for a in range(0, len(order) - size + 1, size)]
        for place in rng.permutation(len(batches)):
            yield ends[batches[place]]


def encode(trained: TrainedSessions, sessions: SessionRows, ends: Rows, length: int) -> NDArray[np.float32]:
    """(P, D) query vectors of what stands before each place."""
    table, out = torch.from_numpy(trained.session_input), []
    with torch.no_grad():
        for a in range(0, len(ends), 4096):
            rows, present = sessions.before(ends[a : a + 4096], length)
            out.append(trained.encoder(table[torch.from_numpy(rows)], torch.from_numpy(present)))
    return torch.cat(out).numpy()
