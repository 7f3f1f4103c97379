"""Recipes: settings for well-known layouts of logs, one TOML file each in the folder `recipes`."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from jobs.errors import ConfigError

_FOLDER = Path(__file__).with_name("recipes")


@dataclass(frozen=True)
class Recipe:
    """The settings for one layout.

    Args:
        name: its name on the command line.
        about: which logs have this layout.
        source: where the layout is described.
        files: table → the raw files from which it is read.
        left_out: which parts of the raw files are not read, and why; "" if all are read.
        signs: the signs by which `inspect` recognises a file of this layout; one is enough. Each sign is a table with
            one or more of the keys `columns` (the file must have all of them), `width` (the number of columns), `names`
            (patterns of file names) and `format`. A file must fit every key of the sign.
        settings: the settings, as in a configuration file.
    """

    name: str
    about: str
    source: str
    files: dict[str, str]
    left_out: str
    signs: tuple[Mapping[str, Any], ...]
    settings: dict[str, Any]

    def fits(self, file: str, format_: str, columns: Sequence[str]) -> bool:
        """Return whether a file is written in this layout.

        Args:
            file: its path.
            format_: its format.
            columns: the names of its columns; columns inside records have names with points.
        """
        return any(_fits(sign, file, format_, columns) for sign in self.signs)


def _fits(sign: Mapping[str, Any], file: str, format_: str, columns: Sequence[str]) -> bool:
    name = file.rpartition("/")[2].lower()
    return (
        set(sign.get("columns", ())) <= set(columns)
        and len(columns) == sign.get("width", len(columns))
        and format_ == sign.get("format", format_)
        and ("names" not in sign or any(fnmatch(name, pattern) for pattern in sign["names"]))
    )


def recipe_names() -> list[str]:
    """Return the names of all recipes."""
    return sorted(file.stem for file in _FOLDER.glob("*.toml"))


def read_recipe(name: str) -> Recipe:
    """Return a recipe.

    Raises:
        ConfigError: there is no recipe of this name.
    """
    names = recipe_names()
    if name not in names:
        close = get_close_matches(name, names, n=1)
        suggestion = f", did you mean {close[0]!r}?" if close else ";"
        raise ConfigError(f"there is no recipe {name!r}{suggestion} recipes are {', '.join(names)}")
    settings = tomllib.loads((_FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    about = settings.pop("recipe")
    files = {table: about[table] for table in ("events", "items", "ads") if table in about}
    signs = tuple(about.get("signs", ()))
    return Recipe(name, about["about"], about["source"], files, about.get("left_out", ""), signs, settings)


def merged(settings: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of both mappings, section by section; if both have a key, the value of `over` counts.

    Args:
        settings: the settings that may be replaced.
        over: the settings that replace them.

    >>> merged({"input": {"a": 1, "b": 2}}, {"input": {"b": 3}})
    {'input': {'a': 1, 'b': 3}}
    """
    both = dict(settings)
    for key, value in over.items():
        below = both.get(key)
        both[key] = merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return both
