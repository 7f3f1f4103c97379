"""A workspace with the shop's version and unpublished variants of this version."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.workspace.workspace import Workspace
from tests.jobs.conftest import Shop

PARTS = ("index", "embeddings", "graph/sessions")


@dataclass(frozen=True)
class Variants:
    """A copy of the shop's workspace; `add` makes variants of the published version."""

    workspace: Workspace
    shop: Shop

    @property
    def current(self) -> str:
        return self.workspace.current()

    @property
    def events(self) -> list[str]:
        return [str(self.shop.files.test_events)]

    def add(self, digit: str, change: Callable[[Path], None], **update: Any) -> str:
        """Add an unpublished variant with files that `change` alters; return the variant's name."""
        version = self.workspace.open(self.current)
        name = f"{version.name[:-8]}{digit * 8}"
        with self.workspace.lock(), self.workspace.scratch_folder() as staged:
            for part in PARTS:
                shutil.copytree(version.path / part, staged / part)
            shutil.copy(version.path / "graph" / "summary.json", staged / "graph")
            change(staged)
            fields = {"version": name, "fingerprint": digit * 32, **update}
            self.workspace.add(staged, version.manifest.model_copy(update=fields))
        return name

    def with_popularity(self, digit: str, weight: float) -> str:
        """Add a variant that serves another weight of popularity."""
        from retrieval.catalogue.score_terms import item_bias
        from retrieval.config import ScoreWeights
        from retrieval.index_folder import read_index

        version = self.workspace.open(self.current)
        weights = ScoreWeights(**version.manifest.metrics["score_weights"]).model_copy(update={"popularity": weight})
        events = read_index(version.path / "index").catalogue.events
        prior = np.load(version.path / "embeddings" / "prior.npy")

        def change(folder: Path) -> None:
            np.save(folder / "index" / "bias.npy", item_bias(prior, events, weights))

        metrics = version.manifest.metrics | {"score_weights": weights.model_dump()}
        config = version.manifest.config | {
            "retrieval": version.manifest.config["retrieval"] | {"popularity_weight": weight}
        }
        return self.add(digit, change, metrics=metrics, config=config)


@pytest.fixture
def variants(shop: Shop, tmp_path: Path) -> Variants:
    shutil.copytree(shop.workspace, tmp_path / "workspace", ignore=shutil.ignore_patterns("build"))
    return Variants(Workspace(tmp_path / "workspace"), shop)
