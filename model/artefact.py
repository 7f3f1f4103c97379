"""The model folder: weights as safetensors, fitted feature transforms and the training record; no pickle."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from model.codec import read_versioned, reading
from model.config import ModelConfig
from model.features import FittedFeatures
from model.network import LightSAGE
from model.trained import Trained, TrainingRecord
from model.vocabulary import Vocabulary

FORMAT_VERSION = 2
_REMEDY = "train again"


@dataclass(frozen=True)
class ModelArtefact:
    """A model that was read from its folder."""

    network: LightSAGE
    features: FittedFeatures
    config: ModelConfig
    record: TrainingRecord


def save_model(directory: Path, trained: Trained, config: ModelConfig) -> None:
    """Write `weights.safetensors`, `transforms.json` and, last, `model.json`.

    Args:
        directory: the folder, which is made if necessary
        trained: the model
        config: the configuration of the training
    """
    directory.mkdir(parents=True, exist_ok=True)
    features = trained.features
    weights = {f"network.{k}": v.contiguous() for k, v in trained.network.state_dict().items()}
    weights["features.title_basis"] = torch.from_numpy(features.title_basis)
    weights["features.title_idf"] = torch.from_numpy(features.title_idf)
    save_file(weights, directory / "weights.safetensors")
    _write(
        directory / "transforms.json",
        {
            "vocabularies": [dataclasses.asdict(v) for v in features.vocabularies],
            "embedding_dim": features.embedding_dim,
        },
    )
    _write(
        directory / "model.json",
        {
            "format_version": FORMAT_VERSION,
            "config": config.model_dump(mode="json"),
            "record": dataclasses.asdict(trained.record),
        },
    )


def load_model(directory: Path) -> ModelArtefact:
    """Read a model folder.

    Raises:
        ModelFormatError: a file is missing, corrupt or of another format version; the message names it.
    """
    model = read_versioned(directory / "model.json", FORMAT_VERSION, _REMEDY)
    with reading(directory / "model.json", _REMEDY):
        config = ModelConfig.model_validate(model["config"])
        record: dict[str, Any] = model["record"]
        record["curve"] = tuple(tuple(row) for row in record["curve"])
        training = TrainingRecord(**record)
    with reading(directory / "weights.safetensors", _REMEDY):
        weights = load_file(directory / "weights.safetensors")
        network_weights = {k.removeprefix("network."): v for k, v in weights.items() if k.startswith("network.")}
        rows, dense = len(network_weights["table"]), len(network_weights["content"])
        network = LightSAGE.from_config(config, rows, dense)
        network.load_state_dict(network_weights)
        title_basis = weights["features.title_basis"].numpy()
        title_idf = weights["features.title_idf"].numpy()
    with reading(directory / "transforms.json", _REMEDY):
        transforms = json.loads((directory / "transforms.json").read_text())
        vocabularies = tuple(
            Vocabulary(v["name"], v["kind"], tuple(v["values"]), tuple(v["bounds"])) for v in transforms["vocabularies"]
        )
        features = FittedFeatures(vocabularies, title_basis, title_idf, transforms["embedding_dim"])
    return ModelArtefact(network.eval(), features, config, training)


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")
