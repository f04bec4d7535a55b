"""What a search is told, and what it finds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

ROUNDING = 2e-6
"""What is told apart of values, relative to them: HiGHS works to 1e-6."""
Seen = Callable[[float, float, int], None]
"""Called with the value, the bound and the boxes so far, once in a while."""


class Found(NamedTuple):
    """What is known of the maximum over a box."""

    value: float  # the greatest known
    bound: float  # no point has more
    x: Tensor  # (n,) the point that has the value
    boxes: int  # bounds computed


class Terms(NamedTuple):
    """When a search is done."""

    until: float  # of `time.process_time`
    tolerance: float  # greatest gap, relative to the value
    goal: float | None = None  # only whether the maximum exceeds it is asked

    def floor(self, value: float) -> float:
        """Boxes whose bound is not above it are of no interest."""
        return value + self.tolerance * abs(value) if self.goal is None else self.goal

    def ceiling(self, value: float) -> float:
        """The bound up to which the maximum counts as found: the floor, but for rounding."""
        return self.floor(value) + ROUNDING * (1 + abs(value))

    def done(self, value: float) -> bool:
        """Whether time is up, or the goal exceeded."""
        return time.process_time() >= self.until or (self.goal is not None and value > self.goal)
