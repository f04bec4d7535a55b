"""Errors that say what was expected and what was given, checks that raise them, and warnings."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterable
from difflib import get_close_matches
from numbers import Integral, Real
from typing import TypeGuard

_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, marks that turn the direction of text, and bytes of a file name that are no UTF-8."""


def printable(text: object) -> str:
    r"""Return a text, such as a file's name, with everything escaped that would act on a terminal or cannot be written.

    >>> print(printable("a\x1b[31m.png"))
    a\x1b[31m.png
    """
    return _UNSAFE.sub(lambda match: ascii(match[0])[1:-1], str(text))


MAX_GOT = 300
"""Characters of a wrong value that a message shows."""


class LatentOptError(Exception):
    """Base class of the errors that latentopt raises on purpose."""


class InputError(LatentOptError, ValueError):
    """Error for an argument, a file or a setting that is wrong, raised before anything is done.

    Args:
        name: name of the argument, file or key.
        expected: description of a right value.
        got: the value, or a description of it; shown with `str`.

    >>> raise InputError("steps", "an integer >= 1", 0)
    Traceback (most recent call last):
    latentopt.errors.InputError: steps: expected an integer >= 1, got 0
    """

    def __init__(self, name: str, expected: str, got: object) -> None:
        super().__init__(name, expected, got)
        self.name, self.expected, self.got = name, expected, got

    def __str__(self) -> str:
        got = str(self.got)
        if len(got) > MAX_GOT:
            got = f"{got[:MAX_GOT]}... ({len(got)} characters)"
        return " ".join(map(printable, f"{self.name}: expected {self.expected}, got {got}".splitlines()))


def first_line(error: BaseException) -> str:
    r"""Return the first line of an error's text, or its class where it has none.

    >>> first_line(RuntimeError("no memory\n  at ..."))
    'no memory'
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def in_one_line(error: BaseException) -> str:
    r"""Return all lines of an error's text as one, or its class where it has none.

    >>> in_one_line(RuntimeError("no memory\n  at ..."))
    'no memory at ...'
    """
    return " ".join(str(error).split()) or type(error).__name__


def warn(message: str, category: type[Warning]) -> None:
    """Issue a warning at the line that called this package."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).split(".")[0] in ("latentopt", "torch"):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def with_nearest(value: object, known: Iterable[str]) -> str:
    """Return an unknown name in quotes, with the known one that is nearest to it.

    >>> with_nearest("adm", ["adam", "pgd"])
    "'adm' (did you mean 'adam'?)"
    """
    by_key = {name.lower().replace("_", "-"): name for name in known}
    near = get_close_matches(str(value).lower().replace("_", "-"), by_key, 1)
    return f"{value!r} (did you mean {by_key[near[0]]!r}?)" if near else repr(value)


def positive(name: str, value: object, integer: bool = False) -> None:
    """Raise `InputError` unless ``value`` is a finite number > 0 (with ``integer``: a whole one of 64 bits)."""
    if not (is_number(value, integer) and 0 < value < _bound(value)):
        raise InputError(name, "an integer >= 1" if integer else "a finite number > 0", _too_large(value))


def nonnegative(name: str, value: object, integer: bool = False) -> None:
    """Raise `InputError` unless ``value`` is a finite number >= 0 (with ``integer``: a whole one of 64 bits)."""
    if not (is_number(value, integer) and 0 <= value < _bound(value)):
        raise InputError(name, "an integer >= 0" if integer else "a finite number >= 0", _too_large(value))


def within(name: str, value: object, low: float, high: float, ends: str = "[]") -> None:
    """Raise `InputError` unless ``value`` is a number from ``low`` to ``high``.

    Args:
        ends: brackets of the interval: ``[]`` with both ends, ``(]`` without the lower one, ...
    """
    inside = is_number(value) and low <= value <= high
    if not inside or (ends[0] == "(" and value == low) or (ends[1] == ")" and value == high):
        raise InputError(name, f"a number in {ends[0]}{low:g}, {high:g}{ends[1]}", repr(value))


def _bound(value: object) -> float:
    return 2**63 if isinstance(value, Integral) else float("inf")


def _too_large(value: object) -> str:
    return f"{value!r} (more than 64 bits)" if isinstance(value, int) and value >= 2**63 else repr(value)


def as_shape(name: str, shape: object) -> tuple[int, ...]:
    """Return a shape as a tuple; 8 stands for (8,).

    Raises:
        InputError: it is no whole number >= 1, and no sequence of such.
    """
    sizes = (shape,) if isinstance(shape, Integral) else tuple(shape) if isinstance(shape, Iterable) else None
    if sizes is None or not all(is_number(size, True) and 1 <= size < 2**63 for size in sizes):
        raise InputError(name, "integers >= 1, the sizes of a shape", repr(shape))
    return tuple(map(int, sizes))


def seed_within(value: object, least: int = -(2**63), most: int = 2**63 - 1) -> None:
    """Raise `InputError` unless ``value`` is a whole number that generators of random numbers accept."""
    if not (is_number(value, True) and least <= value <= most):
        raise InputError("seed", f"an integer from {least} to {most}", repr(value))


def is_number(value: object, integer: bool = False) -> TypeGuard[float]:
    """Return whether a value is a real number (with ``integer``: a whole one) of any library, and no truth value."""
    return isinstance(value, Integral if integer else Real) and not isinstance(value, bool)
