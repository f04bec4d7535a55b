"""Numbers as people write them on the command line and in recipes: ``8/255``, ``1e-3``, ``inf``."""

from __future__ import annotations

import re
from contextlib import suppress
from types import UnionType
from typing import Any, get_args, get_origin

_DECIMAL = r"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_NUMBER = re.compile(rf"[-+]?(?:{_DECIMAL}(?:\s*/\s*{_DECIMAL})?|inf|nan)")


def parse_number(text: str) -> float:
    """Parse a number as people write it: ``0.1``, ``1e-3``, ``8/255``, ``inf``.

    Raises:
        ValueError: the text is none.

    >>> parse_number("8/255") == 8 / 255
    True
    """
    if not _NUMBER.fullmatch(text.strip()):
        raise ValueError(f"{text!r} is no number")
    above, slash, below = text.partition("/")
    if slash and not float(below):
        raise ValueError(f"{text!r} divides by 0")
    return float(above) / float(below) if slash else float(text)


def parse_as(value: Any, kind: Any) -> Any:
    """Return a value with a number in place of a text such as ``8/255`` where the type has a float."""
    if get_origin(kind) in (list, tuple) and isinstance(value, list):
        return [parse_as(item, get_args(kind)[0]) for item in value]
    if isinstance(value, str) and (kind is float or (isinstance(kind, UnionType) and float in get_args(kind))):
        with suppress(ValueError):
            return parse_number(value)
    return value


def parse_fractions(value: Any) -> Any:
    """Return a copy of plain data whose texts like ``8/255`` and ``inf``, which YAML takes for text, are numbers."""
    if isinstance(value, dict):
        return {key: parse_fractions(item) for key, item in value.items()}
    if isinstance(value, list):
        return [parse_fractions(item) for item in value]
    if isinstance(value, str) and ("/" in value or "inf" in value) and _NUMBER.fullmatch(value):
        return parse_number(value)
    return value
