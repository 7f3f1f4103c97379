"""Configuration of the model and its training: the keys of [model] and [session] in the TOML file."""

from itertools import pairwise
from typing import Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class FeatureConfig(_Section):
    """Which columns of the items table describe an item, and how finely."""

    id_min_events: int = Field(
        1, ge=1, description="an item with at least this many training events has a row of its own in the id table"
    )
    min_level_count: int = Field(
        2, ge=1, description="a category level, brand or other value is a feature if at least this many items have it"
    )
    price_buckets: int = Field(32, ge=2, description="quantile buckets of the price and of other numeric columns")
    title_hash_bits: int = Field(
        15, ge=8, le=20, description="words and word pairs of titles are hashed into 2^bits columns"
    )
    title_dim: int = Field(64, ge=1, description="dimensions to which a truncated SVD reduces the hashed titles")
    columns: tuple[str, ...] = Field(
        (), description="columns of the items table that are features, beside category, brand, price and title"
    )
    exclude: tuple[str, ...] = Field((), description="standard columns of the items table that are not to be features")


class PropagationConfig(_Section):
    """The weighted average over an item's in-neighbours (one hop)."""

    top_k: int = Field(30, ge=1, description="in-neighbours kept per item, the heaviest over all edge types")
    strong_click: float = Field(1.0, ge=0, description="total weight of the strong-click edges into an item")
    swing: float = Field(0.3, ge=0, description="total weight of the Swing edges into an item")
    co_search: float = Field(0.3, ge=0, description="total weight of the co-search edges into an item")


class TailConfig(_Section):
    """Long-tail cluster averaging: items with few events share the mean features of a group."""

    enabled: bool = Field(True, description="whether tail items are replaced by their group's mean in training")
    group_size: int = Field(2, ge=1, description="the most items that share one mean")
    at_inference: bool = Field(False, description="whether tail items are also embedded by their group's mean")


class PriorConfig(_Section):
    """How demand has moved during the training window."""

    half_life_days: float = Field(1.0, gt=0, description="days after which an event counts half in the recent demand")
    pseudo_count: float = Field(
        1.0, gt=0, description="events added to recent and expected demand, so that rare items move little"
    )


class LossConfig(_Section):
    """The sampled softmax that the model is trained with."""

    temperature: float = Field(0.05, gt=0, description="cosines are divided by it; the lower, the sharper the softmax")
    random_negatives: int = Field(512, ge=0, description="random items per batch, beside the batch's other targets")
    logq: Literal["negatives", "all", "none"] = Field(
        "negatives", description="candidates whose logits are corrected for how often they are drawn"
    )


class SemanticIdConfig(_Section):
    """Semantic IDs: a residual quantiser as a bottleneck of the item vectors."""

    levels: int = Field(0, ge=0, le=16, description="codes per item; 0 = item vectors are not quantised")
    size: int = Field(256, ge=2, le=256, description="entries of each level's codebook")
    mode: Literal["ste", "gumbel"] = Field(
        "ste", description="ste = nearest entry, straight-through gradient; gumbel = entry drawn by Gumbel-softmax"
    )
    simvq: bool = Field(False, description="whether codebooks are fixed entries times a learned map (SimVQ)")
    commitment: float = Field(
        0.25,
        ge=0,
        description="weight of the loss that pulls vectors to their entries; the loss that pulls entries has weight 1",
    )
    penalty: float = Field(
        3.0, ge=0, description="weight of the codebook and commitment loss beside the retrieval loss"
    )
    warm_up: float = Field(0.1, ge=0, lt=1, description="share of the training schedule before the quantiser starts")
    lr: float = Field(0.003, gt=0, description="learning rate of the quantiser")
    initial_temperature: float = Field(
        0.37,
        gt=0,
        validation_alias=AliasChoices("initial_temperature", "cold"),
        description="temperature of the Gumbel-softmax when the quantiser starts (formerly cold)",
    )
    final_temperature: float = Field(
        1.0,
        gt=0,
        validation_alias=AliasChoices("final_temperature", "hot"),
        description="temperature of the Gumbel-softmax at the end of training (formerly hot); it changes exponentially",
    )


class SessionConfig(_Section):
    """The session encoder, which turns the last items of a session into one query vector."""

    enabled: bool = Field(
        False, description="train a session encoder, and serve it if it beats the weighted mean on the hold-out"
    )
    length: int = Field(20, ge=1, description="most recent items of a session that it reads")
    positions: tuple[int, ...] = Field(
        (0, 1), min_length=1, description="for each layer, the number of positions that attend; 0 = all"
    )
    heads: int = Field(4, ge=1, description="attention heads per layer; must divide model.dim")
    dropout: float = Field(0.2, ge=0, le=0.99, description="share of activations dropped in training")
    temperature: float = Field(0.05, gt=0, description="temperature of the sampled softmax, as in [model.loss]")
    random_negatives: int = Field(1024, ge=0, description="random items per batch, beside the batch's other targets")
    batch_size: int = Field(1024, ge=2, description="targets per batch")
    max_epochs: float = Field(1.0, gt=0, description="passes over all targets")
    input_lr: float = Field(
        0.002,
        ge=0,
        description="learning rate of the items' input vectors; 0 = the vectors of the query role are not changed",
    )
    network_lr: float = Field(0.001, gt=0, description="learning rate of the network")
    seed: int = Field(0, description="seed of the weights, batches and negatives")
    threads: int = Field(0, ge=0, description="torch threads; 0 = as many as cores")


class TrainConfig(_Section):
    """The training schedule and its optimiser (Adam, with a learning rate that falls linearly)."""

    batch_size: int = Field(1024, ge=2, description="training pairs per batch")
    max_epochs: float = Field(2.0, gt=0, description="passes over the training pairs in the whole schedule")
    max_pairs_per_epoch: int = Field(500_000, ge=1, description="the most pairs that count as one epoch")
    evaluations_per_epoch: int = Field(2, ge=1, description="evaluations on the hold-out per epoch")
    patience: int = Field(
        2, ge=1, description="training stops after this many evaluations in a row without a better score"
    )
    table_lr: float = Field(
        0.01, ge=0, description="learning rate of the feature table; 0 = fixed, from a factorisation of the graph"
    )
    network_lr: float = Field(0.001, gt=0, description="learning rate of the heads")
    warm_share: float = Field(
        0.25,
        gt=0,
        le=1,
        description="share of max_epochs for which a warm start trains, that is, from an earlier model's weights",
    )
    max_steps_apart: int = Field(
        1, ge=1, description="train on pairs whose target comes at most this many items after the query"
    )
    seed: int = Field(0, description="seed of the weights, batches and negatives")
    threads: int = Field(0, ge=0, description="torch threads; 0 = as many as cores")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto = a GPU if torch finds one, else the CPU")


class ModelConfig(_Section):
    """The LightSAGE model."""

    dim: int = Field(192, ge=2, description="dimensions of the embeddings, all members together")
    members: int = Field(4, ge=1, description="networks side by side, each with dim / members of the dimensions")
    matryoshka: tuple[int, ...] = Field(
        (), description="ascending sizes of prefixes that are trained to be embeddings themselves; needs members = 1"
    )
    dropout: float = Field(0.2, ge=0, le=0.99, description="share of the network's inputs dropped in training")
    features: FeatureConfig = FeatureConfig()
    propagation: PropagationConfig = PropagationConfig()
    tail: TailConfig = TailConfig()
    loss: LossConfig = LossConfig()
    semantic_ids: SemanticIdConfig = SemanticIdConfig()
    prior: PriorConfig = PriorConfig()
    train: TrainConfig = TrainConfig()

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if self.dim % self.members:
            raise ValueError(f"dim = {self.dim} cannot be shared among members = {self.members}: it must be a multiple")
        if self.matryoshka and self.members > 1:
            raise ValueError("matryoshka needs members = 1: a prefix would contain only the first member")
        if any(small >= large for small, large in pairwise([0, *self.matryoshka, self.dim])):
            raise ValueError(
                f"matryoshka = {list(self.matryoshka)} must ascend from 1, and stay below dim = {self.dim}"
            )
        return self
