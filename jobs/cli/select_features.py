"""`lightsage select-features`: which feature groups a model needs, learned once, and what it finds without the rest."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.config import Config
from jobs.errors import InputNotFoundError
from jobs.progress import ProgressCallback, portion

if TYPE_CHECKING:
    from jobs.pipeline.holdout import HoldoutEvaluation
    from model.config import ModelConfig
    from model.graph import ItemGraph

log = logging.getLogger(__name__)

# No item has so many events: no id has a row of the table.
NO_IDS = 2**62


@dataclass(frozen=True)
class Selection:
    """What was chosen.

    confidence: every group's, the surest first; kept: those that were chosen; rows: the hold-out's figures of a model
    with all groups and of one with the kept ones alone, both without an id table, as `retrieval.evaluation.protocols`
    gives them; then, if asked for, of both with one.
    """

    confidence: Mapping[str, float]
    kept: tuple[str, ...]
    protocol: str
    rows: tuple[dict[str, Any], ...]

    @property
    def excluded(self) -> tuple[str, ...]:
        """The groups that were not chosen."""
        return tuple(name for name in self.confidence if name not in self.kept)

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self) | {"excluded": self.excluded}, indent=1) + "\n", encoding="utf-8")


def select_features(
    graph: Path, config: Config, keep: int, report: ProgressCallback, *, with_ids: bool = False
) -> Selection:
    """Choose `keep` of the feature groups of a graph folder, on `fit/`; compared on the hold-out.

    Args:
        with_ids: whether models with an id table, as they are served, are compared as well.

    Raises:
        InputNotFoundError: there is no hold-out to compare on.
    """
    from jobs.pipeline.holdout import HoldoutEvaluation
    from model.graph import load_graph

    holdout = HoldoutEvaluation.load(graph, config)
    if holdout is None:
        raise InputNotFoundError("there is no hold-out session of two items: a selection can't be judged")
    fit = load_graph(graph, "fit", graph / "tables" / "items")
    confidence, kept = chosen_groups(fit, config.model, keep, portion(report, 0.0, 0.3))
    log.info("kept: %s", ", ".join(kept))
    excluded = tuple(name for name in confidence if name not in kept)
    models = {"all groups": config.model, f"{len(kept)} groups": without(config.model, excluded)}
    judged = {name: without_ids(model) for name, model in models.items()}
    if with_ids:
        judged |= {f"{name}, with ids": model for name, model in models.items()}
    rows: list[dict[str, Any]] = []
    for place, (name, model) in enumerate(judged.items()):
        ends = [0.3 + 0.7 * at / len(judged) for at in (place, place + 1)]
        rows += measured(name, fit, model, holdout, portion(report, *ends))
    return Selection(confidence, kept, holdout.protocol, tuple(rows))


def chosen_groups(
    graph: "ItemGraph", config: "ModelConfig", keep: int, report: ProgressCallback | None = None
) -> tuple[dict[str, float], tuple[str, ...]]:
    """(confidence of each group, the surest first; the chosen ones)."""
    from model.trainer import train

    trained = train(graph, of_features_alone(config), keep_groups=keep, progress=report)
    selector, names = trained.network.selector, [name for name, _ in trained.features.groups]
    assert selector is not None
    sure = selector.confidence().tolist()
    order = sorted(range(len(names)), key=lambda group: -sure[group])
    return {names[g]: round(sure[g], 4) for g in order}, tuple(names[g] for g in selector.chosen().tolist())


def measured(
    name: str,
    graph: "ItemGraph",
    config: "ModelConfig",
    holdout: "HoldoutEvaluation",
    report: ProgressCallback | None = None,
) -> list[dict[str, Any]]:
    """The hold-out's figures of a model."""
    from model.trainer import train

    embeddings = train(graph, config, progress=report).embeddings
    return holdout.rows(name, embeddings, holdout.choose_weights(embeddings))


def without_ids(config: "ModelConfig") -> "ModelConfig":
    """The same model, told apart by features alone."""
    features = config.features.model_copy(update={"id_min_events": NO_IDS})
    return config.model_copy(update={"features": features})


def of_features_alone(config: "ModelConfig") -> "ModelConfig":
    """The same model without ids, neighbours and means of likes: items are known by nothing but their own features.

    By its neighbours' noise an item is told apart as well as by an id of its own, so that noise would be chosen.
    """
    from model.graph import EDGE_TYPES

    edges = config.propagation.model_copy(update=dict.fromkeys(EDGE_TYPES, 0.0))
    tail = config.tail.model_copy(update={"enabled": False})
    return without_ids(config).model_copy(update={"propagation": edges, "tail": tail})


def without(config: "ModelConfig", groups: tuple[str, ...]) -> "ModelConfig":
    """The same model without some feature groups."""
    features = config.features
    columns = tuple(column for column in features.columns if column not in groups)
    excluded = tuple(dict.fromkeys((*features.exclude, *groups)))
    return config.model_copy(update={"features": features.model_copy(update={"columns": columns, "exclude": excluded})})
