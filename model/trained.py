"""What training returns: the fitted model, and the record of how it was fitted."""

from dataclasses import dataclass

from model.embeddings import Embeddings
from model.encoder_input import EncoderInput
from model.features import FittedFeatures
from model.network import LightSAGE


@dataclass(frozen=True)
class TrainingRecord:
    """How the model was fitted.

    Args:
        steps: number of optimiser steps after which the weights were taken
        schedule_steps: steps of the whole schedule, over which the learning rate falls
        pairs: number of training pairs
        curve: one (step, mean loss since the last evaluation, validation score or None) per evaluation
        seconds: wall time
    """

    steps: int
    schedule_steps: int
    pairs: int
    curve: tuple[tuple[int, float, float | None], ...]
    seconds: float

    @property
    def share(self) -> float:
        """The share of the schedule after which the weights were taken."""
        return self.steps / self.schedule_steps


@dataclass(frozen=True)
class Trained:
    """A fitted model with everything that is needed to embed its catalogue; the network is on the CPU."""

    network: LightSAGE
    features: FittedFeatures
    encoder: EncoderInput
    embeddings: Embeddings
    record: TrainingRecord
