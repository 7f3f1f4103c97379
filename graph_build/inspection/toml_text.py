"""Writes values and keys as TOML, for the lines that an inspection advises to write."""

import json
from typing import Any


def toml_value(value: Any) -> str:
    """Return a value as TOML.

    Args:
        value: text, a number, true or false, a list of them, or a dict of them.

    >>> toml_value({"a": ["b", True]})
    '{ a = ["b", true] }'
    """
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{toml_key(key)} = {toml_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def toml_key(key: str) -> str:
    """Return a key as TOML, in quotes where it needs them."""
    is_bare = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
    return key if is_bare else json.dumps(key, ensure_ascii=False)
