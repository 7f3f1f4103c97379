"""Configuration of retrieval and of its HTTP server; imports nothing heavy, so that any command can read it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(gt=0.0, le=1.0)]
# A host, all hosts below one (`*.`), or any host (`*`), as written in the header that tells browsers what to load.
ImageHost = Annotated[str, Field(pattern=r"^(\*|(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)*(:[0-9]{1,5})?)$", max_length=253)]


class ScoreWeights(BaseModel):
    """Weights of the terms of a score; `retrieval.catalogue.score_terms` has the formula."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prior: float = Field(
        default=0.05,
        ge=0.0,
        description=(
            "Weight of the recent change of demand; a weight equal to the softmax temperature corrects for it fully."
        ),
    )
    direct: float = Field(default=0.05, ge=0.0, description="Weight of a direct edge from a viewed item.")
    popularity: float = Field(default=0.0, description="Weight of popularity, which is subtracted.")
    revisit: float = Field(default=0.0, ge=0.0, description="Added to the score of an item that was viewed before.")


class RetrievalConfig(BaseModel):
    """How candidates are found and ranked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    exact_below: int = Field(
        default=30_000,
        ge=0,
        description=(
            "Number of rows up to which a request is answered by an exact scan, and up to which the index is flat. "
            "Beyond, the cheaper of scan and index is used. 0 = scan only where the index cannot fill a list."
        ),
    )
    scope_cache_bytes: int = Field(
        default=512_000_000,
        ge=0,
        description=(
            "Bytes of memory for what is cached between requests: the items that are eligible at a time, in a country "
            "and in a category, and their vectors. What was used longest ago goes first."
        ),
    )
    batch_exact_below: int = Field(
        default=500_000,
        ge=0,
        description="Number of rows up to which one matrix product, and not the index, answers a batch of queries.",
    )
    target_recall: Share = Field(
        default=0.97, description="Recall@100 against exact search, 0 to 1, that the tuning of the index must reach."
    )
    tuning_queries: int = Field(
        default=500, ge=1, description="Number of items whose query vectors the index is tuned and measured with."
    )
    index_kinds: tuple[Literal["ivf_sq8", "ivf_pq4", "flat"], ...] = Field(
        default=("ivf_sq8", "ivf_pq4"),
        min_length=1,
        description=(
            "Kinds of index to build and compare beyond `exact_below` rows: inverted lists of 8-bit vectors "
            "(ivf_sq8), inverted lists of product-quantised vectors (ivf_pq4), or all vectors (flat)."
        ),
    )
    index_prefix: int | None = Field(
        default=None,
        ge=1,
        description=(
            "Number of dimensions to index, for embeddings trained with `[model] matryoshka`; what is found is ranked "
            "by all dimensions. Left out, all are indexed."
        ),
    )
    funnel: bool = Field(
        default=False,
        description=(
            "Halve what an indexed prefix finds for a request by prefixes of doubling length before it is ranked. A "
            "batch ranks all of it."
        ),
    )
    recent_items: int = Field(default=10, ge=1, description="Number of a query's most recent items that count.")
    recency_weight: Share = Field(
        default=0.5,
        description="Weight of an item in the query relative to the next more recent one; 1 = all count alike.",
    )
    prior_weight: float | None = Field(
        default=None,
        ge=0.0,
        description="Weight of the recent change of demand in a score. Left out, it is chosen on the hold-out.",
    )
    direct_weight: float | None = Field(
        default=None,
        ge=0.0,
        description=(
            "Weight of a direct edge from a viewed item: a strong click, or Swing in a graph without strong clicks. "
            "Left out, it is chosen on the hold-out."
        ),
    )
    popularity_weight: float | None = Field(
        default=None,
        description=(
            "Factor of log(1 + min(events, 10)), which is subtracted from a score: below 0 favours common items, above "
            "0 rare ones. Left out, it is the largest weight that keeps 99.8% of the best score on the hold-out."
        ),
    )
    revisit_weight: float | None = Field(
        default=None,
        ge=0.0,
        description=(
            "Added to the score of an item that was viewed before. Left out, it is chosen on the hold-out's sessions."
        ),
    )
    long_tail: bool = Field(
        default=True,
        description="Score a tail item with an edge from a viewed item by its own vector (role `item_own`).",
    )
    train_rows_per_list: int = Field(
        default=64, ge=1, description="Number of rows per inverted list that the lists' centres are trained on."
    )
    seed: int = Field(default=0, description="Seed of the samples that the index is trained and tuned on.")

    def weights(self) -> ScoreWeights:
        """Return the weights of the score's terms: those that are configured, else the defaults."""
        configured = {
            "prior": self.prior_weight,
            "direct": self.direct_weight,
            "popularity": self.popularity_weight,
            "revisit": self.revisit_weight,
        }
        return ScoreWeights(**{name: value for name, value in configured.items() if value is not None})


class ServeConfig(BaseModel):
    """Limits of the HTTP server."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    default_k: int = Field(
        default=20, ge=1, description="Number of results of a request that does not say how many; at most `max_k`."
    )
    max_k: int = Field(default=1000, ge=1, description="Largest number of results that a request may ask for.")
    max_items: int = Field(default=100, ge=1, description="Largest number of viewed items in a request.")
    max_exclude: int = Field(
        default=1000, ge=1, description="Largest number of items, advertisers or campaigns that a request may exclude."
    )
    max_id_length: int = Field(default=512, ge=1, description="Largest number of characters of an id.")
    max_body_bytes: int = Field(default=1_000_000, ge=1, description="Largest size of a request's body, in bytes.")
    max_age_hours: float | None = Field(
        default=None,
        gt=0.0,
        description=(
            "Hours since the served version's as-of time after which `/readyz` fails. Left out, any age is accepted."
        ),
    )
    current_check_seconds: float = Field(
        default=10.0, gt=0.0, description="Seconds between two checks for a newly published version."
    )
    retry_refused_seconds: float = Field(
        default=300.0,
        ge=0.0,
        description="Seconds until a published version that could not be loaded is tried again.",
    )
    changes_poll_seconds: float = Field(
        default=1.0,
        gt=0.0,
        description="Seconds between two checks of the log of live changes for changes by other processes.",
    )
    max_changes: int = Field(
        default=1000, ge=1, description="Largest number of live changes in a request, or in a page of the log."
    )
    max_waiting_writers: int = Field(
        default=16,
        ge=1,
        description="Number of requests with live changes that may wait for one another; further ones get a 503.",
    )
    changes_wait_seconds: float = Field(
        default=10.0, gt=0.0, description="Seconds that a request with live changes waits for earlier ones, then a 503."
    )
    changes_compact_after: int = Field(
        default=20_000,
        ge=1,
        description=(
            "Number of entries after which the log of live changes is compacted; a tenth of the changed ads, if that "
            "is more."
        ),
    )
    max_in_flight: int = Field(
        default=128,
        ge=1,
        description="Number of requests that wait or are being answered; further ones get a 503 and may retry.",
    )
    max_wait_seconds: float = Field(
        default=1.0, gt=0.0, description="Seconds that a request may wait for its turn before it gets a 503."
    )
    max_connections: int = Field(
        default=4096,
        ge=1,
        description="Number of open connections. A further one replaces the one that has been idle longest.",
    )
    max_connections_per_peer: int = Field(
        default=1024,
        ge=1,
        description=(
            "Number of open connections of one IPv4 address or one /64 network of IPv6. Behind a proxy, all "
            "connections have the proxy's address."
        ),
    )
    max_head_bytes: int = Field(
        default=32_768, ge=1024, description="Largest size of a request's line and headers, in bytes."
    )
    max_buffered_bytes: int = Field(
        default=64_000_000,
        ge=1_000_000,
        description=(
            "Bytes that all unfinished requests together may hold in memory, and all answers that clients have not "
            "taken yet. Above this, the requests that hold most and the oldest answers are cut off."
        ),
    )
    head_seconds: float = Field(
        default=10.0, gt=0.0, description="Seconds within which a request's line and headers must arrive."
    )
    idle_seconds: float = Field(
        default=75.0,
        gt=0.0,
        description="Seconds after which a connection without a request is closed. A proxy should close earlier.",
    )
    send_seconds: float = Field(
        default=10.0, gt=0.0, description="Seconds that a client may leave an answer untaken before it is cut off."
    )
    slow_threads: int = Field(
        default=2,
        ge=1,
        description=(
            "Number of threads for explanations, completions and graphs, and as many for retrievals that take longer "
            "than a few milliseconds. All other requests are answered by the thread of the event loop."
        ),
    )
    max_slow: int = Field(
        default=32,
        ge=1,
        description="Number of such requests of either kind that are answered or wait; further ones get a 503.",
    )
    slow_seconds: float = Field(
        default=0.5, gt=0.0, description="Requests that take more seconds than this are logged."
    )
    body_seconds: float = Field(default=10.0, gt=0.0, description="Seconds within which a request's body must arrive.")
    image_hosts: tuple[ImageHost, ...] = Field(
        default=(),
        description=(
            'Hosts from which the page may load the items\' `image_url` over HTTPS, e.g. `["img.shop.example", '
            '"*.cdn.example"]`; `["*"]` = any. By default it loads no pictures.'
        ),
    )
    drain_seconds: float = Field(
        default=1.0,
        ge=0.0,
        description=(
            "Seconds after the signal to stop in which `/readyz` fails and new connections are still accepted, so that "
            "a load balancer can turn to other servers."
        ),
    )
    shutdown_seconds: int = Field(
        default=10, ge=0, description="Seconds after that in which requests that were sent must be answered."
    )

    @model_validator(mode="after")
    def _default_is_allowed(self) -> ServeConfig:
        if self.default_k > self.max_k:
            raise ValueError(f"default_k = {self.default_k} is above max_k = {self.max_k}")
        return self
