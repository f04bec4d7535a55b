"""Branch and bound that splits the inputs: many boxes at a time, the greatest bounds first.

Boxes that were split often and have few open units left go to HiGHS, which splits on units: along the edge of a
plateau, where the maximum is not one point, halving inputs would never end.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from latentopt.analysis.certify.boxes import Boxes, Pool
from latentopt.analysis.certify.chain import Chain
from latentopt.analysis.certify.milp import milp_search
from latentopt.analysis.certify.relaxed import Plane, Relaxed
from latentopt.analysis.certify.terms import FINE, Found, Seen, Terms

WORK = 1 << 22
"""Numbers in the largest tensor of a batch of boxes."""
DEPTH, UNITS = 4, 12
"""HiGHS gets boxes that were split so often, and once more for each input, and have no more units open."""


@torch.no_grad()
def split_search(chain: Chain, low: Tensor, high: Tensor, best: Found, terms: Terms, seen: Seen | None = None) -> Found:
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
    search = _Search(chain, low, high, best, terms)
    while len(search.pool) and not terms.done(search.best.value):
        begins = len(search.pool.round) == 0
        search.advance()
        if begins and seen:
            seen(search.best.value, search.bound, search.best.boxes)
    return search.best._replace(bound=search.bound)


class _Search:
    """Boxes that are open, and the best point."""

    def __init__(self, chain: Chain, low: Tensor, high: Tensor, best: Found, terms: Terms) -> None:
        self.chain, self.terms = chain, terms
        self.closed = -torch.inf  # no point of the boxes that were closed, or cut off, has more
        self.relaxed, self.count = Relaxed(chain, torch.maximum(low.abs(), high.abs())), _batch(chain)
        self.best = best._replace(boxes=1, slack=max(best.slack, 4 * self.relaxed.rounding[-1]))
        self.deep = DEPTH + chain.inputs
        plane, depth = self.relaxed.upper(low[None], high[None]), torch.zeros(1, dtype=torch.long, device=low.device)
        width = 16 * chain.inputs + 2 * chain.units + 32
        self.pool = Pool(_opened(plane, low[None], high[None], plane.bound, depth, self.floor()), width)

    def floor(self) -> float:
        """What boxes are closed below from now on: not below what rounding lets a bound reach."""
        floor = self.terms.floor(self.best.value)
        if self.terms.goal is None:
            floor = max(floor, self.best.value + 4 * self.relaxed.rounding[-1])
        self.closed = max(self.closed, floor)  # a floor can fall: of a negative value by a tolerance above 1
        return floor

    @property
    def bound(self) -> float:
        return max(self.pool.bound(), self.closed)

    def advance(self) -> None:
        """Halve a batch of boxes."""
        boxes = self.pool.take(self.count)
        plane, low, high, bound = self._halved(boxes)
        self.best = self.best._replace(boxes=self.best.boxes + len(low))
        values = self.chain(plane.x)[:, 0]
        if float(values.max()) > self.best.value:
            self._better(float(values.max()), plane.x[values.argmax()])
        opened = _opened(plane, low, high, bound, (boxes.depth + 1).repeat(2), self.floor())
        leaves = (opened.depth >= self.deep) & (opened.units <= UNITS)
        self.pool.put(opened.rows(~leaves))
        for leaf in leaves.nonzero()[:, 0]:
            self._solve(opened.rows(leaf[None]))

    def _halved(self, boxes: Boxes) -> tuple[Plane, Tensor, Tensor, Tensor]:
        """The planes over the halves of boxes, the halves, and their bounds: a box's holds for its halves too."""
        low, high = boxes.halves()
        alphas = [part.float().repeat(2, 1) for part in boxes.alphas.split(self.relaxed.sizes, 1)]
        plane = self.relaxed.upper(low, high, alphas)
        return plane, low, high, torch.minimum(plane.bound, boxes.bound.repeat(2))

    def _better(self, value: float, x: Tensor) -> None:
        self.best = self.best._replace(value=value, x=x)
        self.pool.prune(self.floor())

    def _solve(self, leaf: Boxes) -> None:
        """Close a box by HiGHS, if there is time; where its tolerances are too wide, the box is halved again."""
        if self.terms.done(self.best.value):
            return self.pool.put(leaf)
        found = milp_search(self.chain, leaf.low[0], leaf.high[0], self.best, self.terms)
        self.best = self.best._replace(slack=max(self.best.slack, found.slack))
        if found.value > self.best.value:
            self._better(found.value, found.x)
        bound = min(found.bound, float(leaf.bound))
        if bound > self.terms.limit(self.best.value, found.slack, max(self.terms.tolerance, FINE)):
            depth = leaf.depth - self.chain.inputs
            return self.pool.put(
                Boxes(leaf.low, leaf.high, leaf.bound.new_tensor([bound]), leaf.side, depth, *leaf[5:])
            )
        self.closed = max(self.closed, bound)
        return None


def _opened(plane: Plane, low: Tensor, high: Tensor, bound: Tensor, depth: Tensor, floor: float) -> Boxes:
    """The boxes whose bound is above the floor, cut to where their planes are above it.

    Only the plane's own bound goes with its slope: a lesser ``bound`` (K,) from elsewhere says nothing of the plane.
    """
    rows = (bound > floor).nonzero()[:, 0]
    slope, low, high = plane.slope[rows], low[rows], high[rows]
    room = (plane.bound[rows] - floor)[:, None] / slope.abs().clamp_min(torch.finfo(low.dtype).tiny)
    cut_low = torch.where(slope > 0, torch.maximum(low, high - room), low)
    cut_high = torch.where(slope < 0, torch.minimum(high, low + room), high)
    side = (plane.worth[rows] * (cut_high - cut_low)).argmax(1)
    alphas = torch.cat([alpha[rows] for alpha in plane.alphas], 1).half()
    return Boxes(cut_low, cut_high, bound[rows], side, depth[rows], plane.opened[rows], alphas)


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
