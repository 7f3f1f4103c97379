"""One TOML file for the whole system: each room's own configuration, composed.

`[input.events.columns]` and its neighbours stand at the top, where a user looks for them; they belong to the graph
build.
"""

import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from graph_build.config import GraphConfig
from jobs.errors import ConfigError
from model.config import ModelConfig, SessionConfig
from retrieval.config import RetrievalConfig, ServeConfig


class SparkConfig(BaseModel):
    """Where the graph build runs when no session is active; under spark-submit the cluster's settings hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    master: str | None = None
    driver_memory: str = "3g"


class ValidationConfig(BaseModel):
    """The hold-out on which the number of training steps is chosen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: float = Field(0.1, gt=0, lt=0.5, description="of the item events, in the last sessions by start time")
    max_sessions: int = Field(5_000, ge=1, description="a seeded sample keeps an evaluation at a few seconds")


class PreRankConfig(BaseModel):
    """The order that interaction counters give to what retrieval found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(False, description="learn one, and serve it if it beats retrieval alone on the hold-out")
    smoothing: float = Field(
        10.0, gt=0, description="events that are imagined to follow each entity as they follow all"
    )
    depth: int = Field(200, ge=1, description="the best that retrieval found are put in order, so many of them")
    max_lists: int = Field(10_000, ge=1, description="lists of retrieval, a sample, that its weights are learned from")


class NightlyConfig(BaseModel):
    """What a night may do, and the gates that it must pass before it publishes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    days: str | None = Field(None, description="where Spark keeps the days of logs; default: days/ in the workspace")
    warm_start: bool = Field(True, description="begin with the published version's weights")
    quality_drop: float = Field(0.05, ge=0, description="HR@100 on the day: how far below the published version's")
    tail_quality_drop: float = Field(0.15, ge=0, description="the same of tail targets")
    counting_drop: float = Field(0.1, ge=0, description="how far below the best counting peer's")
    coverage_drop: float = Field(0.3, ge=0, description="coverage@20: how far below the published version's")
    alone_rise: float = Field(0.05, ge=0, description="share of items without an edge: how far above the last nights'")
    size_change: float = Field(0.5, ge=0, description="nodes, edges, sessions: how far outside the last nights' range")
    mix_change: float = Field(0.1, ge=0, description="share of an edge type: how far outside the last nights' range")
    overlap: float = Field(0.2, ge=0, le=1, description="least share of the probes' 20 neighbours that stay")
    probes: int = Field(1000, ge=1, description="items whose neighbours are compared, always the same ones")
    history: int = Field(14, ge=1, description="published nights that a range is taken from")
    least_history: int = Field(3, ge=1, description="with fewer there is no range, and its gates pass")
    keep_versions: int = Field(7, ge=1, description="the newest, beside what is served and what it came from")


class Config(BaseModel):
    """Everything that can be set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    graph: GraphConfig = GraphConfig()
    model: ModelConfig = ModelConfig()
    session: SessionConfig = SessionConfig()
    prerank: PreRankConfig = PreRankConfig()
    retrieval: RetrievalConfig = RetrievalConfig()
    serve: ServeConfig = ServeConfig()
    spark: SparkConfig = SparkConfig()
    validation: ValidationConfig = ValidationConfig()
    nightly: NightlyConfig = NightlyConfig()

    @model_validator(mode="after")
    def _whole_heads(self) -> Self:
        if self.session.enabled and self.model.dim % self.session.heads:
            raise ValueError(
                f"session.heads = {self.session.heads} cannot share model.dim = {self.model.dim}: it must be a divisor"
            )
        return self

    @model_validator(mode="after")
    def _counters_for_the_pre_ranker(self) -> Self:
        if self.prerank.enabled and not self.graph.counters:
            raise ValueError("prerank.enabled needs the graph's counters: set counters = true under [graph]")
        return self


def load_config(path: Path | None) -> Config:
    """Read a TOML file; every key that it leaves out has its default.

    Raises:
        ConfigError: the file is missing, is no TOML, or says something unknown or out of range; the key is named.
    """
    if path is None:
        return Config()
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; --config takes a TOML file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} is no readable TOML file: {error}") from error
    if "input" in content and isinstance(content.get("graph", {}), dict):
        if "input" in content.get("graph", {}):
            raise ConfigError(f"{path} has both [input] and [graph.input], which are one: write [input] alone")
        content["graph"] = content.get("graph", {}) | {"input": content.pop("input")}
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        lines = [f"  {_key(e['loc'])}: {_problem(e)}" for e in error.errors()]
        raise ConfigError("\n".join([f"{path} is not a valid configuration:", *lines])) from error


def _key(location: tuple[int | str, ...]) -> str:
    parts = [str(part) for part in location]
    return ".".join(parts[1:] if parts[:2] == ["graph", "input"] else parts)


def _problem(error: Mapping[str, Any]) -> str:
    if error["type"] == "value_error":  # a check of our own, which says what it found
        return str(error["ctx"]["error"])
    if error["type"] != "extra_forbidden":
        return f"{error['msg']} (got {error['input']!r})"
    *section, name = error["loc"]
    known = _known_keys(section)
    close = get_close_matches(str(name), known, n=1)
    meant = f", did you mean {close[0]!r}?" if close else "."
    return f"unknown key{meant} Known here: {', '.join(known)}"


def _known_keys(section: list[int | str]) -> list[str]:
    """The keys that a section may have, where a user writes them."""
    model: Any = Config
    for part in section:
        model = model.model_fields[part].annotation
    names = list(model.model_fields)
    if model is Config:
        names.append("input")
    elif model is GraphConfig:
        names.remove("input")
    return names
