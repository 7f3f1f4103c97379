"""`lightsage config`: all settings as one TOML file, with what each of them means."""

import json
import textwrap
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from jobs.config import Config

_WIDTH = 118


def as_toml(config: Config) -> str:
    """A file that `jobs.config.load_config` reads as `config`; what is None stands there as a comment."""
    lines = ["# Every key may be left out."]
    for name in type(config).model_fields:
        section = getattr(config, name)
        if name == "graph":  # written at the top, where a user looks for it
            lines += _section("input", section.input)
        lines += _section(name, section, leave_out=("input",) if name == "graph" else ())
    return "\n".join(lines) + "\n"


def _section(name: str, section: BaseModel, leave_out: tuple[str, ...] = ()) -> Iterator[str]:
    fields = {key: field for key, field in type(section).model_fields.items() if key not in leave_out}
    inner = [key for key in fields if isinstance(getattr(section, key), BaseModel)]
    yield ""
    yield from _comment(type(section).__doc__)
    yield f"[{name}]"
    for key, field in fields.items():
        if key not in inner:
            yield from _key(key, getattr(section, key), field)
    for key in inner:
        yield from _section(f"{name}.{key}", getattr(section, key))


def _key(key: str, value: Any, field: FieldInfo) -> Iterator[str]:
    line = f"# {key} =" if value is None else f"{key} = {_value(value)}"
    beside = f"{line:<32}  # {' '.join((field.description or '').split())}"
    if field.description is None or len(beside) <= _WIDTH:
        yield beside if field.description else line
    else:
        yield from _comment(field.description)
        yield line


def _value(value: Any) -> str:
    if isinstance(value, dict):
        inside = ", ".join(f"{json.dumps(name)} = {_value(one)}" for name, one in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    return json.dumps(value, ensure_ascii=False)


def _comment(text: str | None) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(" ".join((text or "").split()), _WIDTH)]
