"""Configuration of retrieval and of its HTTP server; imports nothing heavy, so that any command can read it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(gt=0.0, le=1.0)]


class RetrievalConfig(BaseModel):
    """How candidates are found and ranked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    exact_below: int = Field(default=30_000, ge=0)
    """Rows up to which an exact scan answers a request, and up to which a flat index is built."""
    batch_exact_below: int = Field(default=500_000, ge=0)
    """Rows up to which a batch of queries is answered by one matrix product instead of by the index."""
    target_recall: Share = 0.97
    """Recall@100 against exact search at which the tuning of nprobe stops."""
    tuning_queries: int = Field(default=500, ge=1)
    """Catalogue query vectors on which the index is tuned and its recall is measured."""
    shortlist_factor: float = Field(default=3.0, ge=1.0)
    """The index is asked for this many times k rows, which are then ranked exactly."""
    recent_items: int = Field(default=10, ge=1)
    """How many of a query's most recent items count."""
    recency_weight: Share = 0.5
    """An item's weight in the query relative to the next more recent one; 1 weighs all alike."""
    long_tail: bool = True
    """Whether a tail item with an edge from a viewed item is scored by its own vector (role `item_own`)."""
    train_rows_per_list: int = Field(default=64, ge=1)
    """Rows per inverted list on which the coarse quantizer is trained."""
    seed: int = 0


class ServeConfig(BaseModel):
    """Limits of the HTTP server."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    default_k: int = Field(default=20, ge=1)
    max_k: int = Field(default=1000, ge=1)
    max_items: int = Field(default=100, ge=1)
    """Longest list of viewed items in a request."""
    max_exclude: int = Field(default=1000, ge=1)
    """Longest list of items, advertisers or campaigns to leave out."""
    max_id_length: int = Field(default=512, ge=1)
    max_body_bytes: int = Field(default=1_000_000, ge=1)
    max_age_hours: float | None = Field(default=None, gt=0.0)
    """`/readyz` fails once the served version's as-of time is older than this; None = any age will do."""
    current_check_seconds: float = Field(default=10.0, gt=0.0)
    """How often a server looks whether another version was published, which it then logs."""
    shutdown_seconds: int = Field(default=10, ge=0)
    """How long running requests may take to end after the signal to stop."""
