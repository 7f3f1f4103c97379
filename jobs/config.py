"""The configuration of the whole system in one TOML file: the settings of each package, and those of the commands.

In the file, the section `[input]` stands at the top, where users look for it, although it belongs to the graph build.
"""

import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from graph_build.config import GraphConfig
from jobs.errors import ConfigError
from jobs.recipe import merged, read_recipe
from model.config import ModelConfig, SessionConfig
from retrieval.config import RetrievalConfig, ServeConfig


class SparkConfig(BaseModel):
    """The local Spark session of a graph build. Under spark-submit, the cluster's settings are used instead."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    master: str | None = Field(None, description="Spark's master URL, for example local[4]; left out: all local cores")
    driver_memory: str = Field("3g", description="memory of Spark's driver, for example 3g")


class ValidationConfig(BaseModel):
    """The hold-out: the last sessions of the log, on which the number of training steps and the weights are chosen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: float = Field(0.1, gt=0, lt=0.5, description="share of the item events that is held out; the last sessions")
    max_sessions: int = Field(
        5_000, ge=1, description="at most this many sessions are measured, drawn with a fixed seed"
    )


class PreRankConfig(BaseModel):
    """The pre-ranker, which reorders the best results of retrieval by interaction counters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(
        False, description="train a pre-ranker, and serve it if it beats retrieval alone on the hold-out"
    )
    smoothing: float = Field(
        10.0, gt=0, description="weight of the average in each rate, in events; it steadies rates of few events"
    )
    depth: int = Field(200, ge=1, description="number of results, from the best, that are reordered")
    max_lists: int = Field(10_000, ge=1, description="number of sampled result lists from which weights are learned")


class NightlyConfig(BaseModel):
    """The nightly build, and the gates that a version must pass before it is published."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    days: str | None = Field(
        None,
        description="folder or URI where Spark stores the days of events; left out: days/ in the workspace",
    )
    day_share: float = Field(
        0.8,
        ge=0,
        le=1,
        description="a file replaces a stored day only if it holds this share of its events and sessions",
    )
    quarantine_days: float = Field(
        30, ge=0, description="age in days at which the refused rows of stored days are deleted"
    )
    warm_start: bool = Field(True, description="start training from the weights of the published version")
    quality_drop: float = Field(
        0.05, ge=0, description="largest accepted relative drop of HR@100 on the day, against the published version"
    )
    tail_quality_drop: float = Field(
        0.15, ge=0, description="largest accepted relative drop for targets that are tail items"
    )
    least_questions: int = Field(
        30,
        ge=1,
        description="smallest number of questions on the day for a gate on quality; with fewer, it is not judged",
    )
    least_sessions: int = Field(
        10, ge=1, description="smallest number of sessions for a gate on quality; with fewer, it is not judged"
    )
    counting_drop: float = Field(
        0.1, ge=0, description="largest accepted relative distance of HR@100 below the best simple method"
    )
    coverage_drop: float = Field(
        0.3, ge=0, description="largest accepted relative drop of coverage@20, against the published version"
    )
    alone_rise: float = Field(
        0.05, ge=0, description="largest accepted rise of the share of items without an edge, against the last nights"
    )
    size_change: float = Field(
        0.5,
        ge=0,
        description="how far counts of nodes, edges and sessions may be outside their latest range, as a share",
    )
    mix_change: float = Field(
        0.1, ge=0, description="distance that the share of an edge type may be outside the last nights' range"
    )
    ads_change: float = Field(
        1.0, ge=0, description="relative distance that the ads in flight may be outside the last nights' range"
    )
    ads_lost_rise: float = Field(
        0.1, ge=0, description="largest accepted rise of the share of ads without an item, against the last nights"
    )
    overlap: float = Field(
        0.2, ge=0, le=1, description="smallest accepted share of the probe items' 20 nearest neighbours that stay"
    )
    probes: int = Field(1000, ge=1, description="number of probe items; nearly the same items are compared every night")
    history: int = Field(14, ge=1, description="number of published nights that make up the last nights' range")
    least_history: int = Field(
        3, ge=1, description="smallest number of published nights for a range; with fewer, its gates pass"
    )
    keep_versions: int = Field(
        7, ge=1, description="number of versions to keep, besides those that are served and their parents"
    )
    unpublished_days: float = Field(
        30, ge=0, description="age in days at which a night deletes versions that were never published"
    )


class Config(BaseModel):
    """All settings of the system."""

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
    def _heads_divide_the_dimensions(self) -> Self:
        if self.session.enabled and self.model.dim % self.session.heads:
            raise ValueError(
                f"session.heads = {self.session.heads} does not divide model.dim = {self.model.dim}; "
                "set session.heads to a divisor"
            )
        return self

    @model_validator(mode="after")
    def _the_pre_ranker_has_counters(self) -> Self:
        if self.prerank.enabled and not self.graph.counters:
            raise ValueError("prerank.enabled needs the graph's counters; set counters = true under [graph]")
        return self


def load_config(path: Path | None, recipe: str | None = None) -> Config:
    """Read a TOML file. If a key is not in the file, the recipe's value counts, or else the default.

    Args:
        path: the file; None = the recipe alone.
        recipe: the name of a recipe; None = all defaults.

    Raises:
        ConfigError: the file does not exist or is not TOML, there is no such recipe, or a key is unknown or out of
            range; the message names the key.
    """
    content = {} if path is None else _with_input(_read_toml(path), str(path))
    if recipe is not None:
        content = merged(_with_input(read_recipe(recipe).settings, recipe), content)
    return config_of(content, str(path) if path is not None else f"recipe {recipe}")


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; give an existing TOML file with --config") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as a TOML file: {error}") from error
    return content


def config_of(content: Mapping[str, Any], source: str) -> Config:
    """Return the configuration with the keys of a TOML file. Keys that it leaves out have their defaults.

    Args:
        content: section → key → value.
        source: the name of the file in messages.

    Raises:
        ConfigError: a key is unknown or out of range; the message names the key.
    """
    content = _with_input(content, source)
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        lines = [f"  {_user_key(e['loc'])}: {_problem(e)}" for e in error.errors()]
        raise ConfigError("\n".join([f"{source} is not a valid configuration; correct these keys:", *lines])) from error


def _with_input(content: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the content of a file with its section `[input]` moved into `[graph]`, where the configuration has it."""
    content = dict(content)
    if "input" in content and isinstance(content.get("graph", {}), dict):
        if "input" in content.get("graph", {}):
            raise ConfigError(f"{source} has both [input] and [graph.input], which mean the same; keep only [input]")
        content["graph"] = content.get("graph", {}) | {"input": content.pop("input")}
    return content


def _user_key(location: tuple[int | str, ...]) -> str:
    """The key as users write it: `input.…` instead of `graph.input.…`."""
    parts = [str(part) for part in location]
    return ".".join(parts[1:] if parts[:2] == ["graph", "input"] else parts)


def _problem(error: Mapping[str, Any]) -> str:
    if error["type"] == "value_error":  # raised by a validator in our own code, whose text says everything
        return str(error["ctx"]["error"])
    if error["type"] != "extra_forbidden":
        return f"{error['msg']} (got {error['input']!r})"
    *section, name = error["loc"]
    known = _known_keys(section)
    close = get_close_matches(str(name), known, n=1)
    suggestion = f", did you mean {close[0]!r}?" if close else "."
    return f"unknown key{suggestion} Known here: {', '.join(known)}"


def _known_keys(section: list[int | str]) -> list[str]:
    """The keys that a section may have, as users write them."""
    model: Any = Config
    for part in section:
        model = model.model_fields[part].annotation
    names = list(model.model_fields)
    if model is Config:
        names.append("input")
    elif model is GraphConfig:
        names.remove("input")
    return names
