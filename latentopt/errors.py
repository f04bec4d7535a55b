"""Errors that say what was expected and what was given, and checks that raise them."""

from __future__ import annotations

from numbers import Integral, Real


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
        return f"{self.name}: expected {self.expected}, got {self.got}"


def positive(name: str, value: object, integer: bool = False) -> None:
    """Raise `InputError` unless ``value`` is a finite number > 0 (with ``integer``: a whole number >= 1)."""
    if not (_is_number(value, integer) and 0 < value < float("inf")):  # pyright: ignore[reportOperatorIssue]
        raise InputError(name, "an integer >= 1" if integer else "a finite number > 0", repr(value))


def nonnegative(name: str, value: object, integer: bool = False) -> None:
    """Raise `InputError` unless ``value`` is a finite number >= 0 (with ``integer``: a whole one)."""
    if not (_is_number(value, integer) and 0 <= value < float("inf")):  # pyright: ignore[reportOperatorIssue]
        raise InputError(name, "an integer >= 0" if integer else "a finite number >= 0", repr(value))


def seed_within(value: object, least: int = -(2**63), most: int = 2**63 - 1) -> None:
    """Raise `InputError` unless ``value`` is a whole number that generators of random numbers accept."""
    if not (_is_number(value, True) and least <= value <= most):  # pyright: ignore[reportOperatorIssue]
        raise InputError("seed", f"an integer from {least} to {most}", repr(value))


def _is_number(value: object, integer: bool) -> bool:
    return isinstance(value, Integral if integer else Real) and not isinstance(value, bool)
