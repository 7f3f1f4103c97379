"""Configuration of retrieval and of its HTTP server; imports nothing heavy, so that any command can read it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(gt=0.0, le=1.0)]


class ScoreWeights(BaseModel):
    """Weights of the terms of a score, which `retrieval.catalogue.score_terms` writes out."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    prior: float = Field(default=0.05, ge=0.0)
    """At a softmax temperature T, a weight of T corrects for the shift of demand wholly."""
    direct: float = Field(default=0.05, ge=0.0)
    popularity: float = 0.0
    revisit: float = Field(default=0.0, ge=0.0)


class RetrievalConfig(BaseModel):
    """How candidates are found and ranked."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    exact_below: int = Field(default=30_000, ge=0)
    """Rows up to which an exact scan answers a request, and up to which a flat index is built; beyond, the cheaper way.

    0 = exact scans only where the index cannot fill a list.
    """
    scope_cache_bytes: int = Field(default=256_000_000, ge=0)
    """Memory for the vectors of small eligible sets, which stay the same until an ad starts, ends or changes."""
    batch_exact_below: int = Field(default=500_000, ge=0)
    """Rows up to which a batch of queries is answered by one matrix product instead of by the index."""
    target_recall: Share = 0.97
    """Recall@100 against exact search at which the tuning of nprobe stops."""
    tuning_queries: int = Field(default=500, ge=1)
    """Catalogue query vectors on which the index is tuned and its recall is measured."""
    index_kinds: tuple[Literal["ivf_sq8", "ivf_pq4", "flat"], ...] = Field(default=("ivf_sq8", "ivf_pq4"), min_length=1)
    """What is built and compared beyond `exact_below` rows: inverted lists of 8-bit, of product-quantised vectors; or
    all vectors one after the other."""
    index_prefix: int | None = Field(default=None, ge=1)
    """Adaptive retrieval: only the first so many dimensions are indexed, of embeddings that were trained for it
    (`[model] matryoshka`); what is found is ranked by all of them. left out, all are indexed."""
    funnel: bool = False
    """Whether what an indexed prefix finds for a request is halved by prefixes of doubling size before it is ranked; a
    batch ranks all of it."""
    recent_items: int = Field(default=10, ge=1)
    """How many of a query's most recent items count."""
    recency_weight: Share = 0.5
    """An item's weight in the query relative to the next more recent one; 1 weighs all alike."""
    prior_weight: float | None = Field(default=None, ge=0.0)
    """How much the recent shift of demand counts in a score; left out, it is chosen on the hold-out."""
    direct_weight: float | None = Field(default=None, ge=0.0)
    """How much a strong-click edge from a viewed item counts in a score; left out, it is chosen on the hold-out."""
    popularity_weight: float | None = None
    """How much log(1 + min(events, 10)) is taken off a score: the dial between common items (below 0) and rare (above).

    Left out: what the hold-out gives for almost nothing: the largest weight that keeps 99.8% of its best score.
    """
    revisit_weight: float | None = Field(default=None, ge=0.0)
    """What having been viewed before adds to an item's score; left out, it is chosen on the hold-out's sessions."""
    long_tail: bool = True
    """Whether a tail item with an edge from a viewed item is scored by its own vector (role `item_own`)."""
    train_rows_per_list: int = Field(default=64, ge=1)
    """Rows per inverted list on which the coarse quantizer is trained."""
    seed: int = 0

    def weights(self) -> ScoreWeights:
        """The weights of the score's terms: as given, else their defaults."""
        given = {
            "prior": self.prior_weight,
            "direct": self.direct_weight,
            "popularity": self.popularity_weight,
            "revisit": self.revisit_weight,
        }
        return ScoreWeights(**{name: value for name, value in given.items() if value is not None})


class ServeConfig(BaseModel):
    """Limits of the HTTP server."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    default_k: int = Field(default=20, ge=1)
    """Results of a request that does not say how many, at most `max_k`."""
    max_k: int = Field(default=1000, ge=1)
    max_items: int = Field(default=100, ge=1)
    """Longest list of viewed items in a request."""
    max_exclude: int = Field(default=1000, ge=1)
    """Longest list of items, advertisers or campaigns to leave out."""
    max_id_length: int = Field(default=512, ge=1)
    max_body_bytes: int = Field(default=1_000_000, ge=1)
    max_age_hours: float | None = Field(default=None, gt=0.0)
    """`/readyz` fails once the served version's as-of time is older than this; left out, any age will do."""
    current_check_seconds: float = Field(default=10.0, gt=0.0)
    """How often a server looks whether another version was published, which it then serves."""
    retry_refused_seconds: float = Field(default=300.0, ge=0.0)
    """How long a published version that could not be loaded is left alone before it is tried again."""
    changes_poll_seconds: float = Field(default=1.0, gt=0.0)
    """How often a server looks for changes that others have written to the log of live changes."""
    max_changes: int = Field(default=1000, ge=1)
    """Most live changes in a request, or in a page of the log."""
    max_in_flight: int = Field(default=64, ge=1)
    """Requests taken at once; further ones are told to come back later (503)."""
    slow_seconds: float = Field(default=0.5, gt=0.0)
    """A request that takes longer is logged."""
    body_seconds: float = Field(default=10.0, gt=0.0)
    """How long a request's body may take to arrive."""
    shutdown_seconds: int = Field(default=10, ge=0)
    """How long running requests may take to end after the signal to stop."""

    @model_validator(mode="after")
    def _default_is_allowed(self) -> ServeConfig:
        if self.default_k > self.max_k:
            raise ValueError(f"default_k = {self.default_k} is above max_k = {self.max_k}")
        return self
