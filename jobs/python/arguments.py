"""The arguments that all functions for other programs take, each in several forms."""

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.config import Config, config_of, load_config
from jobs.recipe import recipe_names
from jobs.workspace.workspace import Workspace

Place = Workspace | str | Path
"""A workspace, or its folder or URI."""

Settings = Config | Mapping[str, Any] | str | Path | None
"""Settings: a TOML file, the name of a recipe, a mapping with the sections of such a file, or None for all defaults."""

Paths = str | Path | Sequence[str | Path]
"""One file or folder, or several."""


def as_workspace(workspace: Place) -> Workspace:
    """Return the workspace that an argument names."""
    return workspace if isinstance(workspace, Workspace) else Workspace(workspace)


def as_config(settings: Settings) -> Config:
    """Return the full configuration that an argument names.

    Raises:
        ConfigError: the file does not exist or is not TOML, or a key is unknown or out of range.
    """
    if isinstance(settings, Config):
        return settings
    if isinstance(settings, Mapping):
        return config_of(settings, "config")
    if isinstance(settings, str) and settings in recipe_names():
        return load_config(None, settings)
    return load_config(None if settings is None else Path(settings))


def as_paths(paths: Paths) -> tuple[str, ...]:
    """Return one path or several as a tuple of texts."""
    return (str(paths),) if isinstance(paths, str | Path) else tuple(map(str, paths))


def as_date(date: dt.date | str | None) -> dt.date | None:
    """Return a day as a date; as an argument, it may also be written as YYYY-MM-DD."""
    return dt.date.fromisoformat(date) if isinstance(date, str) else date
