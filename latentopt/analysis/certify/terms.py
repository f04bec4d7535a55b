"""What a search is told, and what it finds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

PRECISION, FINE, TINY = 1e-4, 1e-6, 1e-9
"""Shares of a value: by how much HiGHS's tolerances may take a bound beyond the tolerance in the end; and below which a
box is not halved for their sake. The last is a share of how large a balanced chain's outputs can be."""
Seen = Callable[[float, float, int], None]
"""Called with the value, the bound and the boxes so far, once in a while."""


class Found(NamedTuple):
    """What is known of the maximum over a box."""

    value: float  # the greatest known
    bound: float  # no point has more
    x: Tensor  # (n,) the point that has the value
    boxes: int  # bounds computed
    slack: float = 0.0  # what the bound was raised by for the sake of rounding, and of HiGHS's tolerances


class Terms(NamedTuple):
    """When a search is done."""

    until: float  # of `time.process_time`
    tolerance: float  # greatest gap, relative to the value
    goal: float | None = None  # only whether the maximum exceeds it is asked

    def floor(self, value: float) -> float:
        """Boxes whose bound is not above it are of no interest."""
        return value + self.tolerance * abs(value) if self.goal is None else self.goal

    def limit(self, value: float, slack: float, share: float = PRECISION) -> float:
        """The bound up to which the question is answered; ``slack`` of it is rounding's and HiGHS's."""
        return self.floor(value) + (0.0 if self.goal is not None else min(slack, share * abs(value) + TINY))

    def allowance(self, value: float) -> float:
        """The greatest gap, in units of the value, that answers what is asked."""
        gap = self.tolerance * abs(value)
        return gap if self.goal is None else min(gap, max(self.goal - value, 0.0))

    def done(self, value: float) -> bool:
        """Whether time is up, or the goal exceeded."""
        return time.process_time() >= self.until or (self.goal is not None and value > self.goal)
