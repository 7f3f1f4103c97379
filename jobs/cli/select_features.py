"""`lightsage select-features`: learns which feature groups to keep, and compares models with and without the rest."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
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

# No item has this many events, so no item gets an id embedding.
NO_IDS = 2**62


@dataclass(frozen=True)
class Selection:
    """The outcome of a selection.

    `confidence` has every group, highest confidence first; `selected` are the groups to keep. `rows` are measurements
    on the hold-out, as in `retrieval.evaluation.protocols`. They measure a model with all groups and a model with only
    the selected groups, both without id embeddings and, on request, also both with id embeddings.
    """

    confidence: Mapping[str, float]
    selected: tuple[str, ...]
    protocol: str
    rows: tuple[dict[str, Any], ...]

    @property
    def excluded(self) -> tuple[str, ...]:
        """The groups that were not selected."""
        return tuple(name for name in self.confidence if name not in self.selected)

    def write(self, path: Path) -> None:
        """Write the selection as JSON."""
        content = {
            "confidence": self.confidence,
            "kept": self.selected,
            "protocol": self.protocol,
            "rows": self.rows,
            "excluded": self.excluded,
        }
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def select_features(
    graph: Path, config: Config, keep: int, report: ProgressCallback, *, with_ids: bool = False
) -> Selection:
    """Learn on `fit/` which feature groups to keep, and compare models with and without the others on the hold-out.

    Args:
        graph: the graph folder of a version.
        config: the settings of the models.
        keep: the number of groups to select.
        report: takes the progress.
        with_ids: also compare models with id embeddings, which served models have.

    Raises:
        InputNotFoundError: the graph has no hold-out on which models can be compared.
    """
    from jobs.pipeline.holdout import HoldoutEvaluation
    from model.graph import load_graph

    holdout = HoldoutEvaluation.load(graph, config)
    if holdout is None:
        raise InputNotFoundError(
            f"{graph} has no hold-out session with two items, so models cannot be compared; "
            "build a version from more events"
        )
    fit = load_graph(graph, "fit", graph / "tables" / "items")
    confidence, selected = choose_groups(fit, config.model, keep, portion(report, 0.0, 0.3))
    log.info("kept: %s", ", ".join(selected))
    excluded = tuple(name for name in confidence if name not in selected)
    with_id_models = {
        "all groups": config.model,
        f"{len(selected)} groups": without_groups(config.model, excluded),
    }
    models = {name: without_ids(model) for name, model in with_id_models.items()}
    if with_ids:
        models |= {f"{name}, with ids": model for name, model in with_id_models.items()}
    rows: list[dict[str, Any]] = []
    for number, (name, model) in enumerate(models.items()):
        start, end = (0.3 + 0.7 * done / len(models) for done in (number, number + 1))
        rows += evaluate_on_holdout(name, fit, model, holdout, portion(report, start, end))
    return Selection(confidence, selected, holdout.protocol, tuple(rows))


def choose_groups(
    graph: "ItemGraph", config: "ModelConfig", keep: int, report: ProgressCallback | None = None
) -> tuple[dict[str, float], tuple[str, ...]]:
    """Learn which feature groups to keep.

    Args:
        graph: the graph to learn on.
        config: the settings of the model.
        keep: the number of groups.
        report: takes the progress.

    Returns:
        The confidence of every group, highest first, and the chosen groups.
    """
    from model.trainer import train

    trained = train(graph, features_only(config), keep_groups=keep, progress=report)
    selector, names = trained.network.selector, [name for name, _ in trained.features.groups]
    assert selector is not None
    confidence = selector.confidence().tolist()
    order = sorted(range(len(names)), key=lambda group: -confidence[group])
    chosen = tuple(names[group] for group in selector.chosen().tolist())
    return {names[group]: round(confidence[group], 4) for group in order}, chosen


def evaluate_on_holdout(
    name: str,
    graph: "ItemGraph",
    config: "ModelConfig",
    holdout: "HoldoutEvaluation",
    report: ProgressCallback | None = None,
) -> list[dict[str, Any]]:
    """Train a model and measure it on the hold-out.

    Args:
        name: the name of the model in the rows.
        graph: the graph to train on.
        config: the settings of the model.
        holdout: the sessions to measure on.
        report: takes the progress.
    """
    from model.trainer import train

    embeddings = train(graph, config, progress=report).embeddings
    return holdout.rows(name, embeddings, holdout.choose_weights(embeddings))


def without_ids(config: "ModelConfig") -> "ModelConfig":
    """Return the settings of the same model without id embeddings."""
    features = config.features.model_copy(update={"id_min_events": NO_IDS})
    return config.model_copy(update={"features": features})


def features_only(config: "ModelConfig") -> "ModelConfig":
    """Return the settings of the same model without ids, neighbours and long-tail averages.

    A model can recognise an item by the features of its neighbours as well as by an id. So with neighbours, the
    selection would prefer features whose noise identifies items.
    """
    from model.graph import EDGE_TYPES

    edges = config.propagation.model_copy(update=dict.fromkeys(EDGE_TYPES, 0.0))
    tail = config.tail.model_copy(update={"enabled": False})
    return without_ids(config).model_copy(update={"propagation": edges, "tail": tail})


def without_groups(config: "ModelConfig", groups: tuple[str, ...]) -> "ModelConfig":
    """Return the settings of the same model without some feature groups.

    Args:
        config: the settings of the model.
        groups: the groups to leave out.
    """
    features = config.features
    columns = tuple(column for column in features.columns if column not in groups)
    excluded = tuple(dict.fromkeys((*features.exclude, *groups)))
    return config.model_copy(update={"features": features.model_copy(update={"columns": columns, "exclude": excluded})})
