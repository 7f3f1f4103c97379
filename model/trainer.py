"""Training: from an item graph to a fitted LightSAGE, stopped where the given validation says.

The trainer computes no ranking metric: `validate` does, from embeddings, by the rule by which they will be served.
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

from model.batches import Batches, computed_slots, learned_slots
from model.config import ModelConfig
from model.embed import embed, unquantised
from model.embeddings import Embeddings
from model.encoder_input import encoder_input
from model.errors import ModelInputError
from model.factorise import factorised_table
from model.feature_selection import GroupSelector, SelectorOptimizer, pairs_apart
from model.features import fit_features
from model.graph import ItemGraph
from model.network import LightSAGE
from model.prior import prior_shift
from model.propagation import in_neighbours
from model.tail import group_tail, no_groups
from model.trained import Trained, TrainingRecord
from model.warm_start import WarmStart

log = logging.getLogger(__name__)

Progress = Callable[[str, float], None]
Validate = Callable[[Embeddings], float]


@dataclass
class _Best:
    score: float = -np.inf
    step: int = 0
    misses: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)


def train(
    graph: ItemGraph,
    config: ModelConfig,
    *,
    validate: Validate | None = None,
    share: float | None = None,
    start: WarmStart | None = None,
    keep_groups: int | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Fit LightSAGE on the graph's training pairs.

    With `validate`, training stops after `patience` evaluations without a better score, and the best weights are kept.
    Without, it runs the given `share` of its schedule, or all of it: the refit on everything makes as many passes over
    its pairs as validation chose. With `start`, weights begin as an earlier model's and the schedule is shorter. With
    `keep_groups`, a selector learns which so many of the feature groups are read, from pairs of items that are in none
    of the table's. The global random state of torch is left as it was.

    Raises:
        ModelInputError: the graph has no training pairs.
    """
    near = graph.pair_steps <= config.train.max_steps_apart
    pairs = graph.pairs[near].astype(np.int64)
    if len(pairs) == 0:
        raise ModelInputError(
            f"the graph has no transitions to train on: {len(graph.pairs)} in all, none of at most "
            f"[model.train] max_steps_apart = {config.train.max_steps_apart} steps; "
            "check that events of one session share their session_id"
        )
    torch.set_num_threads(config.train.threads or os.cpu_count() or 1)
    with torch.random.fork_rng():
        torch.manual_seed(config.train.seed)
        prior = prior_shift(pairs[:, 1], graph.pair_age[near], graph.num_items, config.prior)
        return _train(graph, pairs, prior, config, validate, share, start, keep_groups, progress)


def _train(
    graph: ItemGraph,
    pairs: NDArray[np.int64],
    prior: NDArray[np.float32],
    config: ModelConfig,
    validate: Validate | None,
    share: float | None,
    start: WarmStart | None,
    keep_groups: int | None,
    progress: Progress | None,
) -> Trained:
    began = time.perf_counter()
    options = config.train
    features = fit_features(graph.items, config.features, options.seed, start.features if start else None)
    with_id = graph.events >= config.features.id_min_events
    matrix = features.transform(graph.items, graph.item_ids, with_id)
    neighbours = in_neighbours(graph, config.propagation)
    groups = group_tail(graph, matrix, neighbours, config.tail, options.seed)
    encoder = encoder_input(graph, matrix, neighbours, groups)
    served = encoder if config.tail.at_inference else encoder_input(graph, matrix, neighbours, no_groups())
    device = torch.device(_device(options.device))
    # Drawn on the CPU, so that a seed means the same start everywhere.
    network = LightSAGE.of(config, matrix.sparse.shape[1], matrix.dense.shape[1])
    fixed = options.table_lr == 0
    if keep_groups is not None:
        if fixed:
            raise ModelInputError(
                "feature groups are selected while the table learns: set [model.train] table_lr above 0"
            )
        network.selector = GroupSelector.of(features, matrix, keep_groups)
    if fixed:
        network.fix(*factorised_table(matrix, neighbours, config.dim, options.seed))
    elif groups.count:
        # The ids of a group's members only ever move together: started at zero, they are one shared id.
        with torch.no_grad():
            network.table[torch.from_numpy(np.flatnonzero(graph.is_tail[with_id]))] = 0.0
    warm = start is not None and not fixed and start.fits(network)
    if start is not None and warm:
        known = start.copy_into(network, features, graph.item_ids.filter(pa.array(with_id)))
        log.info("warm start: %.1f%% of the table's rows begin where an earlier model ended", 100 * known)
    elif start is not None:
        log.warning("no warm start: the earlier model has another size, or the table is fixed")

    network, encoder, on_host = network.to(device), encoder.to(device), served
    served = encoder if config.tail.at_inference else served.to(device)
    choosing = None
    if network.selector is not None:
        pairs, judged = pairs_apart(pairs, graph.num_items, options.seed)
        size = min(options.batch_size, len(judged))
        judging = Batches(judged, size, graph.num_items, config, neighbours, device)
        choosing = SelectorOptimizer(network.selector, 3 * options.table_lr)
    batch = min(options.batch_size, len(pairs))
    per_epoch = max(1, min(len(pairs), options.max_pairs_per_epoch) // batch)
    schedule = max(1, round(per_epoch * options.max_epochs * (options.warm_share if warm else 1)))
    last = schedule if share is None else max(1, min(schedule, round(share * schedule)))
    every = max(1, min(per_epoch // options.evaluations_per_epoch, schedule // 2))
    slots = computed_slots(network, encoder) if fixed else learned_slots(network, encoder)
    batches = Batches(pairs, batch, graph.num_items, config, neighbours, device)
    learning = [{"params": network.heads.parameters(), "lr": options.network_lr}]
    if not fixed:
        learning.append({"params": [network.table, network.content], "lr": options.table_lr})
    if network.quantizer is not None:
        learning.append({"params": network.quantizer.parameters(), "lr": config.semantic_ids.lr})
    optimiser = torch.optim.Adam(learning, fused=True)
    decay = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: max(0.02, 1 - step / schedule))
    best, curve, losses = _Best(), [], []
    for step in range(1, last + 1):
        network.train()
        for part in (network.quantizer, network.selector):
            if part is not None:
                part.step((step - 1) / schedule)
        loss = batches.loss(network, slots, encoder.total)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        decay.step()
        if choosing is not None:
            choosing.step(judging.loss(network, slots, encoder.total))
        losses.append(loss.item())
        if not np.isfinite(losses[-1]):
            raise ModelInputError(f"the loss became {losses[-1]} at step {step}: lower [model.train] table_lr")
        if step % every == 0 or step == last:
            score = None
            if validate:
                score = validate(embed(graph, network, served, prior))
                # Before its quantiser starts a network is another, whose vectors say more.
                if network.quantizer is None or network.quantizer.started:
                    _keep_best(best, score, step, network)
            curve.append((step, float(np.mean(losses)), score))
            losses.clear()
            log.debug("step %d loss %.4f validation %s", *curve[-1])
            if best.misses >= options.patience:
                break
        if progress and (step % 20 == 0 or step == last):
            shown = f", validation {best.score:.4f}" if best.step else ""
            progress(f"step {step}/{last}, loss {(losses or [curve[-1][1]])[-1]:.3f}{shown}", step / last)
    if best.weights:
        network.load_state_dict(best.weights)
    if network.quantizer is not None:
        network.quantizer.finalize_codebooks(unquantised(network, served))
    record = TrainingRecord(
        best.step or last, schedule, len(pairs), tuple(curve), round(time.perf_counter() - began, 3)
    )
    embeddings = embed(graph, network, served, prior)
    return Trained(network.cpu().eval(), features, on_host, embeddings, record)


def _device(wanted: str) -> str:
    found = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and found == "cpu":
        raise ModelInputError("[model.train] device is cuda, but torch finds no GPU; set it to auto or cpu")
    return found if wanted == "auto" else wanted


def _keep_best(best: _Best, score: float, step: int, network: LightSAGE) -> None:
    if score > best.score:
        best.score, best.step, best.misses = score, step, 0
        best.weights = {name: value.detach().clone() for name, value in network.state_dict().items()}
    else:
        best.misses += 1
