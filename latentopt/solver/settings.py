"""The settings of a solve, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral
from typing import Any

from latentopt.errors import InputError, nonnegative, positive
from latentopt.io import versions


@dataclass(frozen=True)
class SolverSettings:
    """Settings of a solve, named and described as in `latentopt.solve`.

    Raises:
        InputError: a setting is not as described there.
    """

    steps: int
    restarts: int
    seed: int
    evaluations: int | None
    seconds: float | None
    patience: int | None
    min_delta: float
    halving: tuple[tuple[int, int], ...]
    compile: bool
    distinct_starts: bool

    def __post_init__(self) -> None:
        for name in ("steps", "restarts", "evaluations", "seconds", "patience"):
            value = getattr(self, name)
            if value is not None or name in ("steps", "restarts"):
                positive(name, value, integer=name != "seconds")
        nonnegative("min_delta", self.min_delta)
        if not isinstance(self.seed, Integral):
            raise InputError("seed", "an integer", repr(self.seed))

    def meta(self, optimizer: object) -> dict[str, Any]:
        """Return the settings, the method and the versions as a file can hold them."""
        settings = {name: _as_python(getattr(self, name)) for name in _RECORDED}
        settings["halving"] = [[int(step), int(count)] for step, count in self.halving]
        budgets = {name: _as_python(getattr(self, name)) for name in _BUDGETS}
        return {"optimizer": repr(optimizer), **settings, "budgets": budgets, "versions": versions()}


_RECORDED = ("steps", "restarts", "seed", "compile", "distinct_starts")
_BUDGETS = ("evaluations", "seconds", "patience", "min_delta")


def require_halving(halving: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return `latentopt.solve`'s ``halving``, pairs (step, count), after checking it.

    Raises:
        InputError: it holds anything else, numbers below 1, or steps that do not rise.
    """
    pairs = list[tuple[int, int]]()
    for pair in halving if isinstance(halving, Sequence) else [halving]:
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise InputError("halving", "pairs (step, count)", repr(pair))
        for number in pair:
            positive("halving", number, integer=True)
        pairs.append((pair[0], pair[1]))
    if any(later[0] <= earlier[0] for earlier, later in pairwise(pairs)):
        raise InputError("halving", "rising steps", pairs)
    return tuple(pairs)


def _as_python(number: Any) -> Any:
    """Return a number of any library as Python's own, which a file can hold."""
    if number is None or isinstance(number, bool):
        return number
    return int(number) if isinstance(number, Integral) else float(number)
