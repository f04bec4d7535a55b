"""What can go wrong, and how it is said: what was expected and what came."""

from __future__ import annotations

from numbers import Integral, Real


class LatentOptError(Exception):
    """Base of every error that latentopt raises on purpose."""


class InputError(LatentOptError, ValueError):
    """An argument, a file or a setting is not what it has to be; nothing has been done yet.

    Args:
        name: the argument, file or key.
        expected: what it has to be.
        got: what came; any object, shown with `str`.

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
    """Raise `InputError` unless ``value`` is a whole number that the generators of random numbers take as a seed."""
    if not (_is_number(value, True) and least <= value <= most):  # pyright: ignore[reportOperatorIssue]
        raise InputError("seed", f"an integer from {least} to {most}", repr(value))


def _is_number(value: object, integer: bool) -> bool:
    return isinstance(value, Integral if integer else Real) and not isinstance(value, bool)
