"""A configuration as TOML with a comment on every section and key: the output of `lightsage config`."""

import textwrap
from typing import Any

import tomlkit
from pydantic import BaseModel
from tomlkit.items import Table

from jobs.config import Config

_WIDTH = 118
_COMMENT_COLUMN = 32


def as_toml(config: Config) -> str:
    """Return a file that `jobs.config.load_config` reads back as `config`.

    Keys without a value are comments. The section `input` is a part of `graph`, but stands at the top of the file,
    where users look for it.
    """
    document = tomlkit.document()
    document.add(tomlkit.comment("Every key may be left out. It then has its default value."))
    document.add(tomlkit.nl())
    for name in type(config).model_fields:
        section = getattr(config, name)
        if name == "graph":
            document.add("input", _table(section.input))
        document.add(name, _table(section, leave_out={"input"} if name == "graph" else frozenset()))
    return tomlkit.dumps(document)


def _table(section: BaseModel, leave_out: set[str] | frozenset[str] = frozenset()) -> Table:
    """One section: a comment that describes it, its keys, and the sections inside it."""
    table = tomlkit.table()
    _add_comment(table, type(section).__doc__ or "")
    inner: dict[str, BaseModel] = {}
    for key, field in type(section).model_fields.items():
        value = getattr(section, key)
        if key in leave_out:
            continue
        if isinstance(value, BaseModel):
            inner[key] = value
        else:
            _add_key(table, key, value, field.description or "")
    for key, value in inner.items():
        table.add(tomlkit.nl())
        table.add(key, _table(value))
    return table


def _add_key(table: Table, key: str, value: Any, description: str) -> None:
    """Add a key and its description, which stands beside the key if both fit on one line, else above it."""
    line = f"# {key} =" if value is None else f"{key} = {_item(value).as_string()}"
    description = " ".join(description.split())
    padding = " " * max(_COMMENT_COLUMN - len(line), 2)
    beside = len(f"{line}{padding}# {description}") <= _WIDTH
    if not beside:
        table.add(tomlkit.nl())
        _add_comment(table, description)
    if value is None:
        table.add(tomlkit.comment(f"{key} ={padding}# {description}" if beside else f"{key} ="))
        return
    item = _item(value)
    if beside:
        item.comment(description)
        item.trivia.comment_ws = padding
    table.add(key, item)


def _item(value: Any) -> Any:
    if isinstance(value, dict):
        inline = tomlkit.inline_table()
        inline.update({key: list(entry) if isinstance(entry, tuple) else entry for key, entry in value.items()})
        return inline
    return tomlkit.item(list(value) if isinstance(value, tuple) else value)


def _add_comment(table: Table, text: str) -> None:
    for line in textwrap.wrap(" ".join(text.split()), _WIDTH):
        table.add(tomlkit.comment(line))
