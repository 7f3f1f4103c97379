"""Configuration of the model room: what the [model] section of the TOML file may say."""

from itertools import pairwise
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FeatureConfig(_Section):
    """Which columns of the items table describe an item, and how finely."""

    id_min_events: int = Field(1, ge=1, description="items with at least this many events have a row of the id table")
    min_level_count: int = Field(2, ge=1, description="rarer category levels and brands are left out")
    price_buckets: int = Field(32, ge=2)
    title_hash_bits: int = Field(15, ge=8, le=20, description="title n-grams are hashed into 2^bits columns")
    title_dim: int = Field(64, ge=1, description="and reduced to this many by a truncated SVD")
    columns: tuple[str, ...] = Field((), description="further columns of the items table that are features")
    exclude: tuple[str, ...] = Field((), description="columns that are none, though they usually are")


class PropagationConfig(_Section):
    """The linear average over in-neighbours (one hop)."""

    top_k: int = Field(30, ge=1, description="in-neighbours kept per item")
    strong_click: float = Field(1.0, ge=0)
    swing: float = Field(0.3, ge=0)
    co_search: float = Field(0.3, ge=0)


class TailConfig(_Section):
    """Long-tail cluster averaging."""

    enabled: bool = True
    group_size: int = Field(2, ge=1, description="the most items that share one mean")
    at_inference: bool = Field(False, description="whether items are embedded by their group's mean too")


class PriorConfig(_Section):
    """How demand has moved within the training window."""

    half_life_days: float = Field(1.0, gt=0, description="an event this old counts half in the recent demand")
    pseudo_count: float = Field(1.0, gt=0, description="recent events that are imagined to go on as before")


class LossConfig(_Section):
    """Sampled softmax."""

    temperature: float = Field(0.05, gt=0)
    random_negatives: int = Field(512, ge=0)
    logq: Literal["negatives", "all", "none"] = "negatives"


class SemanticIdConfig(_Section):
    """A residual quantiser as the item side's bottleneck: semantic IDs."""

    levels: int = Field(0, ge=0, le=16, description="codes of an item; 0 = its vector is not quantised")
    size: int = Field(256, ge=2, le=256, description="entries of each codebook")
    mode: Literal["ste", "gumbel"] = "ste"
    simvq: bool = Field(False, description="codebooks are a fixed start times a learned map")
    commitment: float = Field(0.25, ge=0, description="pull of the vectors towards their entries")
    penalty: float = Field(3.0, ge=0, description="weight of codebook and commitment loss beside the retrieval loss")
    warm_up: float = Field(0.1, ge=0, lt=1, description="share of the schedule before the quantiser begins")
    lr: float = Field(0.003, gt=0)
    cold: float = Field(0.37, gt=0, description="the Gumbel-softmax's temperature at first")
    hot: float = Field(1.0, gt=0, description="and in the end; it rises exponentially")


class SessionConfig(_Section):
    """The session encoder."""

    enabled: bool = Field(False, description="train one, and serve it if it beats the weighted mean on the hold-out")
    length: int = Field(20, ge=1, description="the most recent items that it reads")
    positions: tuple[int, ...] = Field((0, 1), min_length=1, description="attended from, layer by layer; 0 = all")
    heads: int = Field(4, ge=1)
    dropout: float = Field(0.2, ge=0, le=0.99)
    temperature: float = Field(0.05, gt=0)
    random_negatives: int = Field(1024, ge=0)
    batch_size: int = Field(1024, ge=2)
    max_epochs: float = Field(1.0, gt=0)
    input_lr: float = Field(0.002, ge=0, description="of the items' input vectors; 0 = those of the query role stay")
    network_lr: float = Field(0.001, gt=0)
    seed: int = 0
    threads: int = Field(0, ge=0)


class TrainConfig(_Section):
    """The optimiser's schedule."""

    batch_size: int = Field(1024, ge=2)
    max_epochs: float = Field(2.0, gt=0)
    max_pairs_per_epoch: int = Field(500_000, ge=1)
    evaluations_per_epoch: int = Field(2, ge=1)
    patience: int = Field(2, ge=1, description="evaluations without a better one before training stops")
    table_lr: float = Field(0.01, ge=0, description="0 = the features are fixed, from a factorisation of the graph")
    network_lr: float = Field(0.001, gt=0)
    warm_share: float = Field(0.25, gt=0, le=1, description="of max_epochs, after a warm start")
    max_steps_apart: int = Field(1, ge=1, description="train on pairs at most this many steps apart")
    seed: int = 0
    threads: int = Field(0, ge=0, description="torch threads; 0 = as many as cores")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto = a GPU if torch finds one")


class ModelConfig(_Section):
    """The model."""

    dim: int = Field(192, ge=2, description="of the embeddings, all members together")
    members: int = Field(4, ge=1, description="networks side by side, each on its share of the dimensions")
    matryoshka: tuple[int, ...] = Field((), description="sizes of prefixes that are embeddings, too; with members = 1")
    dropout: float = Field(0.2, ge=0, le=0.99)
    features: FeatureConfig = FeatureConfig()
    propagation: PropagationConfig = PropagationConfig()
    tail: TailConfig = TailConfig()
    loss: LossConfig = LossConfig()
    semantic_ids: SemanticIdConfig = SemanticIdConfig()
    prior: PriorConfig = PriorConfig()
    train: TrainConfig = TrainConfig()

    @model_validator(mode="after")
    def _whole_shares(self) -> Self:
        if self.dim % self.members:
            raise ValueError(f"dim = {self.dim} cannot be shared among members = {self.members}: it must be a multiple")
        if self.matryoshka and self.members > 1:
            raise ValueError("matryoshka needs members = 1: the first member alone would be in a prefix")
        if any(small >= large for small, large in pairwise([0, *self.matryoshka, self.dim])):
            raise ValueError(
                f"matryoshka = {list(self.matryoshka)} must ascend from 1, and stay below dim = {self.dim}"
            )
        return self
