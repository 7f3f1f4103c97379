"""What training gives back: the fitted model and the record of how it was fitted."""

from dataclasses import dataclass

from model.embeddings import Embeddings
from model.encoder_input import EncoderInput
from model.features import FittedFeatures
from model.network import LightSAGE


@dataclass(frozen=True)
class TrainingRecord:
    """What happened: every evaluation is a row of `curve` (step, mean loss since the last, validation score)."""

    steps: int
    schedule_steps: int
    pairs: int
    curve: tuple[tuple[int, float, float | None], ...]
    seconds: float

    @property
    def share(self) -> float:
        """The share of the schedule after which the weights were best."""
        return self.steps / self.schedule_steps


@dataclass(frozen=True)
class Trained:
    """A fitted model with everything that embeds its catalogue."""

    network: LightSAGE
    features: FittedFeatures
    encoder: EncoderInput
    embeddings: Embeddings
    record: TrainingRecord
