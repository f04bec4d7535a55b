"""Choices among what a benchmark knows by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from latentopt.errors import InputError, positive

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


def numbers(argument: str, text: str, kind: Callable[[str], float] = float) -> tuple[Any, ...]:
    """The numbers of a comma-separated list, > 0, each read by ``kind``.

    Raises:
        InputError: (of the argument) one is not.
    """
    try:
        found = tuple(kind(word) for word in text.split(","))
    except (ValueError, ZeroDivisionError) as error:
        raise InputError(argument, "numbers between commas", repr(text)) from error
    for number in found:
        positive(argument, number, integer=kind is int)
    return found
