"""Branch and bound that splits the inputs: many boxes at a time, the greatest bounds first."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from latentopt.analysis.certify.boxes import Boxes, Pool
from latentopt.analysis.certify.chain import Chain
from latentopt.analysis.certify.relaxed import Plane, Relaxed

WORK = 1 << 22
"""Numbers in the largest tensor of a batch of boxes."""
ROUNDING = 1e-7
"""What is told apart of values, relative to them."""
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


@torch.no_grad()
def split_search(
    chain: Chain, low: Tensor, high: Tensor, best: Found, terms: Terms, seen: Seen | None = None
) -> Found:
    """The maximum of a chain with one output over a box.

    Args:
        chain: float64.
        low: (n,) finite.
        high: (n,)
        best: the value and its point (n,) to begin with; the value may be greater than the chain's there.
        terms: when it is done; time is looked at after each batch of boxes.
        seen: told how it goes, after each round.
    """
    _keep_memory()
    relaxed, count, done = Relaxed(chain, torch.maximum(low.abs(), high.abs())), _batch(chain), 1
    (value, x), floor = (best.value, best.x), _floor(best.value, relaxed, terms)
    pool = Pool(_opened(relaxed.upper(low[None], high[None]), low[None], high[None], floor))
    while len(pool) and not terms.done(value):
        begins, boxes = len(pool.round) == 0, pool.take(count)
        plane, lows, highs = _halved(relaxed, boxes)
        done += len(lows)
        values = chain(plane.x)[:, 0]
        if float(values.max()) > value:
            value, x = float(values.max()), plane.x[values.argmax()]
            floor = _floor(value, relaxed, terms)
            pool.prune(floor)
        pool.put(_opened(plane, lows, highs, floor))
        if begins and seen:
            seen(value, max(pool.bound(), floor), done)
    return Found(value, max(pool.bound(), floor), x, done)


def _floor(value: float, relaxed: Relaxed, terms: Terms) -> float:
    """Not below what rounding lets a bound reach."""
    floor = terms.floor(value)
    return floor if terms.goal is not None else max(floor, value + 4 * relaxed.rounding[-1])


def _halved(relaxed: Relaxed, boxes: Boxes) -> tuple[Plane, Tensor, Tensor]:
    """The planes over the halves of boxes, and the halves."""
    low, high = boxes.halves()
    alphas = [part.float().repeat(2, 1) for part in boxes.alphas.split(relaxed.sizes, 1)]
    plane = relaxed.upper(low, high, alphas)
    return plane._replace(bound=torch.minimum(plane.bound, boxes.bound.repeat(2))), low, high


def _opened(plane: Plane, low: Tensor, high: Tensor, floor: float) -> Boxes:
    """The boxes whose bound is above the floor, cut to where their planes are."""
    rows = (plane.bound > floor).nonzero()[:, 0]
    bound, slope, low, high = plane.bound[rows], plane.slope[rows], low[rows], high[rows]
    room = (bound - floor)[:, None] / slope.abs().clamp_min(torch.finfo(low.dtype).tiny)
    cut_low = torch.where(slope > 0, torch.maximum(low, high - room), low)
    cut_high = torch.where(slope < 0, torch.minimum(high, low + room), high)
    side = (plane.worth[rows] * (cut_high - cut_low)).argmax(1)
    alphas = torch.cat([alpha[rows] for alpha in plane.alphas], 1).half()
    return Boxes(cut_low, cut_high, bound, side, alphas)


def _batch(chain: Chain) -> int:
    """Boxes to split at a time."""
    sizes = [chain.inputs, *(len(layer.bias) for layer in chain.layers[:-1])]
    largest = max(a * b for a, b in pairwise(sizes)) if len(sizes) > 2 else max(sizes)
    return max(16, min(256, WORK // largest))


def _keep_memory() -> None:
    """Let the C library keep freed tensors of this size, instead of asking the system for zeroed pages each time.

    glibc raises its threshold when a large block that it had mapped is freed. Without it half the time goes there.
    """
    torch.empty(31 << 17, dtype=torch.float64)
