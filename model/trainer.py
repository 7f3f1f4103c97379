"""Training: fits LightSAGE to an item graph, and stops when the validation score no longer improves.

The trainer computes no ranking metric. The caller's `validate` computes one from the embeddings, and ranks items as
serving does.
"""

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.batches import Batches, precomputed_inputs, trainable_inputs
from model.config import ModelConfig
from model.embed import embed, unquantised
from model.embeddings import Embeddings
from model.encoder_input import EncoderInput, encoder_input
from model.errors import ModelInputError
from model.factorise import factorised_table
from model.feature_selection import GroupSelector, SelectorOptimizer, split_pairs_by_items
from model.features import FeatureMatrix, FittedFeatures, fit_features
from model.graph import ItemGraph
from model.network import LightSAGE
from model.prior import prior_shift
from model.progress import ProgressCallback
from model.propagation import Neighbourhood, in_neighbours
from model.tail import TailGroups, group_tail, no_groups
from model.trained import Trained, TrainingRecord
from model.warm_start import WarmStart

log = logging.getLogger(__name__)

_PROGRESS_EVERY = 20  # steps
_LEAST_DECAY = 0.02  # the learning rate never falls below this share of its initial value
_SELECTOR_LR = 3  # the selectors' learning rate, as a multiple of the table's

Validate = Callable[[Embeddings], float]
"""Scores embeddings; higher is better."""


def train(
    graph: ItemGraph,
    config: ModelConfig,
    *,
    validate: Validate | None = None,
    share: float | None = None,
    start: WarmStart | None = None,
    keep_groups: int | None = None,
    progress: ProgressCallback | None = None,
) -> Trained:
    """Fit LightSAGE to the graph's training pairs. The global random state of torch stays as it was.

    Args:
        graph: the item graph with its training pairs
        config: the model and its training
        validate: scores the embeddings at each evaluation. Training stops after `patience` evaluations without a
            better score, and the best weights are kept. None = the schedule runs to its end.
        share: the share of the schedule to run, in (0, 1]; None = all of it. A refit on more pairs gets the share at
            which the validated fit was best, so that both train for the same number of epochs.
        start: an earlier model; training starts from its weights, with a shorter schedule
        keep_groups: number of feature groups to keep. Selectors learn which ones, from pairs that are set aside and do
            not train the table. None = keep all groups
        progress: called every 20 steps
    Raises:
        ModelInputError: the graph has no training pairs, a setting does not fit the data, or the loss is not finite.
    """
    near = graph.pair_steps <= config.train.max_steps_apart
    pairs = graph.pairs[near].astype(np.int64)
    if len(pairs) == 0:
        raise ModelInputError(
            f"nothing to train on: the graph has {len(graph.pairs)} transitions, and none spans at most "
            f"[model.train] max_steps_apart = {config.train.max_steps_apart} steps; "
            "check that events of one session share their session_id"
        )
    torch.set_num_threads(config.train.threads or os.cpu_count() or 1)
    with torch.random.fork_rng():
        torch.manual_seed(config.train.seed)
        prior = prior_shift(pairs[:, 1], graph.pair_age[near], graph.num_items, config.prior)
        trainer = Trainer(graph, pairs, prior, config, start=start, keep_groups=keep_groups)
        return trainer.fit(validate, share, progress)


class Trainer:
    """One training run: the network with its inputs, schedule and optimiser.

    Args:
        graph: the item graph
        pairs: (P, 2) int64 item rows (query, target) to train on
        prior: (N,) float32 shift of demand, passed on to the embeddings
        config: the model and its training
        start: an earlier model; training starts from its weights
        keep_groups: number of feature groups to keep; None = all
    """

    def __init__(
        self,
        graph: ItemGraph,
        pairs: NDArray[np.int64],
        prior: NDArray[np.float32],
        config: ModelConfig,
        *,
        start: WarmStart | None = None,
        keep_groups: int | None = None,
    ) -> None:
        self._began = time.perf_counter()
        self._graph, self._prior, self._config = graph, prior, config
        self._inputs = _prepare(graph, config, start.features if start else None)
        self._table_is_fixed = config.train.table_lr == 0
        device = torch.device(_device(config.train.device))
        # Weights are drawn on the CPU, so that a seed means the same start on every device.
        self._network = self._build_network(keep_groups)
        warm = start is not None and self._begin_warm(start)
        self._network = self._network.to(device)
        self._training = self._inputs.training.to(device)
        self._served = self._training if config.tail.at_inference else self._inputs.served.to(device)
        self._selector_optimizer = None
        if self._network.selector is not None:
            pairs, selector_pairs = split_pairs_by_items(pairs, graph.num_items, config.train.seed)
            self._selector_batches = self._batches(selector_pairs, device)
            self._selector_optimizer = SelectorOptimizer(self._network.selector, _SELECTOR_LR * config.train.table_lr)
        self._pairs = len(pairs)
        self._schedule = _Schedule.plan(len(pairs), config, warm)
        make_inputs = precomputed_inputs if self._table_is_fixed else trainable_inputs
        self._item_inputs = make_inputs(self._network, self._training)
        self._pair_batches = self._batches(pairs, device)
        self._optimizer = self._build_optimizer()
        self._decay = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer, lambda step: max(_LEAST_DECAY, 1 - step / self._schedule.steps)
        )
        self._best = _Best()
        self._curve: list[tuple[int, float, float | None]] = []

    def fit(
        self,
        validate: Validate | None = None,
        share: float | None = None,
        progress: ProgressCallback | None = None,
    ) -> Trained:
        """Train, and return the fitted model; call it once. Parameters are those of `train`."""
        last = self._schedule.last_step(share)
        losses: list[float] = []
        for step in range(1, last + 1):
            losses.append(self._step(step))
            if step % self._schedule.evaluate_every == 0 or step == last:
                self._evaluate(step, losses, validate)
                losses.clear()
                if self._best.misses >= self._config.train.patience:
                    break
            if progress and (step % _PROGRESS_EVERY == 0 or step == last):
                best = f", validation {self._best.score:.4f}" if self._best.step else ""
                loss = losses[-1] if losses else self._curve[-1][1]
                progress(f"step {step}/{last}, loss {loss:.3f}{best}", step / last)
        return self._finish(last)

    def _build_network(self, keep_groups: int | None) -> LightSAGE:
        graph, config, inputs = self._graph, self._config, self._inputs
        matrix = inputs.matrix
        network = LightSAGE.from_config(config, matrix.sparse.shape[1], matrix.dense.shape[1])
        if keep_groups is not None:
            if self._table_is_fixed:
                raise ModelInputError("feature selection trains the feature table: set [model.train] table_lr above 0")
            network.selector = GroupSelector.for_features(inputs.features, matrix, keep_groups)
        if self._table_is_fixed:
            network.fix(*factorised_table(matrix, inputs.neighbours, config.dim, config.train.seed))
        elif inputs.groups.count:
            # The id vectors of a group's members always get the same gradient. They start at zero, so they stay equal
            # and act as one shared vector.
            with torch.no_grad():
                network.table[torch.from_numpy(np.flatnonzero(graph.is_tail[inputs.with_id]))] = 0.0
        return network

    def _begin_warm(self, start: WarmStart) -> bool:
        """Copy the weights of an earlier model, if they fit; return whether they were copied."""
        if self._table_is_fixed:
            log.warning("no warm start: the feature table is not trained, because [model.train] table_lr is 0")
            return False
        if not start.fits(self._network):
            log.warning("no warm start: the earlier model has a different size")
            return False
        ids = self._graph.item_ids.filter(pa.array(self._inputs.with_id))
        share = start.copy_into(self._network, self._inputs.features, ids)
        log.info(
            "warm start: %.1f%% of the feature table's rows begin with the weights of an earlier model", 100 * share
        )
        return True

    def _batches(self, pairs: NDArray[np.int64], device: torch.device) -> Batches:
        size = min(self._config.train.batch_size, len(pairs))
        return Batches(pairs, size, self._graph.num_items, self._config, self._inputs.neighbours, device)

    def _build_optimizer(self) -> torch.optim.Adam:
        network, options = self._network, self._config.train
        groups = [{"params": network.heads.parameters(), "lr": options.network_lr}]
        if not self._table_is_fixed:
            groups.append({"params": [network.table, network.content], "lr": options.table_lr})
        if network.quantizer is not None:
            groups.append({"params": network.quantizer.parameters(), "lr": self._config.semantic_ids.lr})
        return torch.optim.Adam(groups, fused=True)

    def _step(self, step: int) -> float:
        """Take one optimiser step, and return its loss."""
        network = self._network
        network.train()
        for part in (network.quantizer, network.selector):
            if part is not None:
                part.step((step - 1) / self._schedule.steps)
        loss = self._pair_batches.loss(network, self._item_inputs, self._training.total)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._decay.step()
        if self._selector_optimizer is not None:
            selector_loss = self._selector_batches.loss(network, self._item_inputs, self._training.total)
            self._selector_optimizer.step(selector_loss)
        value = float(loss.item())
        if not np.isfinite(value):
            raise ModelInputError(f"the loss became {value} at step {step}: lower [model.train] table_lr")
        return value

    def _evaluate(self, step: int, losses: list[float], validate: Validate | None) -> None:
        """Append a point to the curve; with `validate`, score the embeddings and remember the best weights."""
        score = None
        if validate:
            network = self._network
            score = validate(embed(self._graph, network, self._served, self._prior))
            # Scores from before the quantiser starts are not comparable with later ones, because the vectors are not
            # yet restricted to codes.
            if network.quantizer is None or network.quantizer.started:
                self._best.update(score, step, network)
        self._curve.append((step, float(np.mean(losses)), score))
        log.debug("step %d loss %.4f validation %s", *self._curve[-1])

    def _finish(self, last: int) -> Trained:
        """Go back to the best weights, finish the codebooks, and embed the catalogue."""
        network, best = self._network, self._best
        if best.weights:
            network.load_state_dict(best.weights)
        if network.quantizer is not None:
            network.quantizer.finalize_codebooks(unquantised(network, self._served))
        seconds = round(time.perf_counter() - self._began, 3)
        record = TrainingRecord(best.step or last, self._schedule.steps, self._pairs, tuple(self._curve), seconds)
        embeddings = embed(self._graph, network, self._served, self._prior)
        return Trained(network.cpu().eval(), self._inputs.features, self._inputs.served, embeddings, record)


@dataclass(frozen=True)
class _CatalogueInputs:
    """The network's inputs for all items, on the CPU: one set for training, one for the served embeddings."""

    features: FittedFeatures
    with_id: NDArray[np.bool_]  # (N,) items with a row of the id table
    matrix: FeatureMatrix
    neighbours: Neighbourhood
    groups: TailGroups
    training: EncoderInput
    served: EncoderInput


def _prepare(graph: ItemGraph, config: ModelConfig, earlier: FittedFeatures | None) -> _CatalogueInputs:
    features = fit_features(graph.items, config.features, config.train.seed, earlier)
    with_id = graph.events >= config.features.id_min_events
    matrix = features.transform(graph.items, graph.item_ids, with_id)
    neighbours = in_neighbours(graph, config.propagation)
    groups = group_tail(graph, matrix, neighbours, config.tail, config.train.seed)
    training = encoder_input(graph, matrix, neighbours, groups)
    served = training if config.tail.at_inference else encoder_input(graph, matrix, neighbours, no_groups())
    return _CatalogueInputs(features, with_id, matrix, neighbours, groups, training, served)


@dataclass(frozen=True)
class _Schedule:
    """Steps of the whole schedule, and the steps between two evaluations."""

    steps: int
    evaluate_every: int

    @classmethod
    def plan(cls, num_pairs: int, config: ModelConfig, warm: bool) -> "_Schedule":
        options = config.train
        batch = min(options.batch_size, num_pairs)
        per_epoch = max(1, min(num_pairs, options.max_pairs_per_epoch) // batch)
        steps = max(1, round(per_epoch * options.max_epochs * (options.warm_share if warm else 1)))
        return cls(steps, max(1, min(per_epoch // options.evaluations_per_epoch, steps // 2)))

    def last_step(self, share: float | None) -> int:
        return self.steps if share is None else max(1, min(self.steps, round(share * self.steps)))


@dataclass
class _Best:
    """The best validated weights so far, and the number of evaluations since the last improvement."""

    score: float = -np.inf
    step: int = 0
    misses: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)

    def update(self, score: float, step: int, network: LightSAGE) -> None:
        if score > self.score:
            self.score, self.step, self.misses = score, step, 0
            self.weights = {name: value.detach().clone() for name, value in network.state_dict().items()}
        else:
            self.misses += 1


def _device(configured: str) -> str:
    available = "cuda" if torch.cuda.is_available() else "cpu"
    if configured == "cuda" and available == "cpu":
        raise ModelInputError("[model.train] device is cuda, but torch finds no GPU; set it to auto or cpu")
    return available if configured == "auto" else configured
