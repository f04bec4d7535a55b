"""Choices among what a benchmark knows by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from latentopt.errors import InputError

T = TypeVar("T")


def chosen(argument: str, names: str, known: Mapping[str, T], always: str | None = None) -> dict[str, T]:
    """Those of a comma-separated list, or ``all``, in the order they are known in; ``always`` is among them.

    Raises:
        InputError: (of the argument) there is no such name.
    """
    wanted = list(known) if names == "all" else [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in known:
            raise InputError(argument, f"all, or some of {', '.join(known)}", repr(name))
    return {name: each for name, each in known.items() if name in {always, *wanted}}
