"""State and stopping rule of a search for the maximum of a chain over a box."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

PRECISION, FINE, TINY = 1e-4, 1e-6, 1e-9
"""Shares of a value: how far HiGHS's tolerances may take a bound beyond the tolerance at the end, and below which no
box is halved because of them. TINY is a share of a balanced chain's greatest output."""
SearchCallback = Callable[[float, float, int], None]
"""Called now and then with the value, the bound and the number of boxes so far."""


class Incumbent(NamedTuple):
    """The best known point over a box, and an upper bound."""

    value: float  # greatest known value
    bound: float  # no point of the box has a greater value
    x: Tensor  # (n,) the point that has the value
    boxes: int  # number of boxes bounded
    slack: float = 0.0  # part of the bound that covers rounding and HiGHS's tolerances


class StoppingRule(NamedTuple):
    """The conditions under which a search ends."""

    deadline: float  # of `time.perf_counter`
    tolerance: float  # greatest gap, relative to the value
    goal: float | None = None  # the search only decides whether the maximum exceeds it

    def floor(self, value: float) -> float:
        """Return the bound at or below which a box is of no interest."""
        return value + self.tolerance * abs(value) if self.goal is None else self.goal

    def limit(self, value: float, slack: float, share: float = PRECISION) -> float:
        """Return the bound that ends the search, where ``slack`` of it is due to rounding and HiGHS."""
        return self.floor(value) + (0.0 if self.goal is not None else min(slack, share * abs(value) + TINY))

    def allowed_gap(self, value: float) -> float:
        """Return the greatest gap, in units of the value, that ends the search."""
        gap = self.tolerance * abs(value)
        return gap if self.goal is None else min(gap, max(self.goal - value, 0.0))

    def is_over(self, value: float) -> bool:
        """Return whether time is up, or the goal exceeded."""
        return time.perf_counter() >= self.deadline or (self.goal is not None and value > self.goal)
