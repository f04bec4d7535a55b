"""Branch and bound that splits the inputs: many boxes at a time, the greatest bounds first.

Boxes that were split often and have few undecided units go to HiGHS, which splits on units: along the edge of a
plateau, where the maximum is not one point, halving inputs would never end.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from latentopt.analysis.certify.box_pool import BoxPool, OpenBoxes
from latentopt.analysis.certify.crown import Crown, UpperPlane
from latentopt.analysis.certify.milp import search_by_milp
from latentopt.analysis.certify.relu_chain import ReLUChain
from latentopt.analysis.certify.search_state import FINE, Incumbent, SearchCallback, StoppingRule

WORK = 1 << 22
"""Entries of the largest tensor of a batch of boxes."""
DEPTH, UNITS = 4, 12
"""HiGHS gets boxes that were split DEPTH times plus once for each input, and have at most UNITS undecided units."""


@torch.no_grad()
def search_by_splitting(
    chain: ReLUChain,
    low: Tensor,
    high: Tensor,
    best: Incumbent,
    stopping: StoppingRule,
    callback: SearchCallback | None = None,
) -> Incumbent:
    """Maximise a chain with one output over a box.

    Args:
        chain: float64.
        low: (n,) finite.
        high: (n,) finite.
        best: the first value and its point (n,); the value may exceed the chain's there.
        stopping: checked after each batch of boxes.
        callback: called after each round.
    """
    _reserve_memory()
    search = _BoxSearch(chain, low, high, best, stopping)
    while len(search.pool) and not stopping.is_over(search.best.value):
        begins_round = len(search.pool.round) == 0
        search.advance()
        if begins_round and callback:
            callback(search.best.value, search.bound, search.best.boxes)
    return search.best._replace(bound=search.bound)


class _BoxSearch:
    """The open boxes and the incumbent of a search."""

    def __init__(self, chain: ReLUChain, low: Tensor, high: Tensor, best: Incumbent, stopping: StoppingRule) -> None:
        self.chain, self.stopping = chain, stopping
        self.closed = -torch.inf  # upper bound of all closed boxes and cut-off parts
        self.crown, self.count = Crown(chain, torch.maximum(low.abs(), high.abs())), _batch_size(chain)
        self.best = best._replace(boxes=1, slack=max(best.slack, 4 * self.crown.rounding[-1]))
        self.milp_depth = DEPTH + chain.inputs
        plane, depth = self.crown.bound(low[None], high[None]), torch.zeros(1, dtype=torch.long, device=low.device)
        width = 16 * chain.inputs + 2 * chain.units + 32
        self.pool = BoxPool(_open(plane, low[None], high[None], plane.bound, depth, self.floor()), width)

    def floor(self) -> float:
        """Return the bound at or below which boxes are closed from now on, no less than rounding lets a bound reach."""
        floor = self.stopping.floor(self.best.value)
        if self.stopping.goal is None:
            floor = max(floor, self.best.value + 4 * self.crown.rounding[-1])
        self.closed = max(self.closed, floor)  # a floor can fall: of a negative value by a tolerance above 1
        return floor

    @property
    def bound(self) -> float:
        return max(self.pool.bound(), self.closed)

    def advance(self) -> None:
        """Halve a batch of boxes."""
        boxes = self.pool.take(self.count)
        low, high = boxes.halves()
        alphas = [part.float().repeat(2, 1) for part in boxes.alphas.split(self.crown.sizes, 1)]
        plane = self.crown.bound(low, high, alphas)
        bound = torch.minimum(plane.bound, boxes.bound.repeat(2))  # a box's bound holds for its halves too
        self.best = self.best._replace(boxes=self.best.boxes + len(low))
        values = self.chain(plane.x)[:, 0]
        if float(values.max()) > self.best.value:
            self._improve(float(values.max()), plane.x[values.argmax()])
        opened = _open(plane, low, high, bound, (boxes.depth + 1).repeat(2), self.floor())
        leaves = (opened.depth >= self.milp_depth) & (opened.units <= UNITS)
        self.pool.put(opened.rows(~leaves))
        for leaf in leaves.nonzero()[:, 0]:
            self._solve(opened.rows(leaf[None]))

    def _improve(self, value: float, x: Tensor) -> None:
        self.best = self.best._replace(value=value, x=x)
        self.pool.prune(self.floor())

    def _solve(self, leaf: OpenBoxes) -> None:
        """Close a box by HiGHS if there is time; where its tolerances are too wide, put the box back."""
        if self.stopping.is_over(self.best.value):
            return self.pool.put(leaf)
        solution = search_by_milp(self.chain, leaf.low[0], leaf.high[0], self.best, self.stopping)
        self.best = self.best._replace(slack=max(self.best.slack, solution.slack))
        if solution.value > self.best.value:
            self._improve(solution.value, solution.x)
        bound = min(solution.bound, float(leaf.bound))
        if bound > self.stopping.limit(self.best.value, solution.slack, max(self.stopping.tolerance, FINE)):
            bounds, depth = leaf.bound.new_tensor([bound]), leaf.depth - self.chain.inputs
            return self.pool.put(OpenBoxes(leaf.low, leaf.high, bounds, leaf.side, depth, *leaf[5:]))
        self.closed = max(self.closed, bound)
        return None


def _open(plane: UpperPlane, low: Tensor, high: Tensor, bound: Tensor, depth: Tensor, floor: float) -> OpenBoxes:
    """Return the boxes whose bound is above the floor, cut to where their planes are above it.

    Only the plane's own bound belongs to its slope; a lesser ``bound`` (K,) from elsewhere must not cut.
    """
    rows = (bound > floor).nonzero()[:, 0]
    slope, low, high = plane.slope[rows], low[rows], high[rows]
    width = (plane.bound[rows] - floor)[:, None] / slope.abs().clamp_min(torch.finfo(low.dtype).tiny)
    cut_low = torch.where(slope > 0, torch.maximum(low, high - width), low)
    cut_high = torch.where(slope < 0, torch.minimum(high, low + width), high)
    side = (plane.worth[rows] * (cut_high - cut_low)).argmax(1)
    alphas = torch.cat([alpha[rows] for alpha in plane.alphas], 1).half()
    return OpenBoxes(cut_low, cut_high, bound[rows], side, depth[rows], plane.undecided[rows], alphas)


def _batch_size(chain: ReLUChain) -> int:
    """Return the number of boxes to split at a time."""
    sizes = [chain.inputs, *(len(layer.bias) for layer in chain.layers[:-1])]
    largest = max(a * b for a, b in pairwise(sizes)) if len(sizes) > 2 else max(sizes)
    return max(16, min(256, WORK // largest))


def _reserve_memory() -> None:
    """Make the C library keep freed tensors, instead of asking the system for zeroed pages each time.

    glibc raises its threshold when a large block that it had mapped is freed. Without it half the time goes there.
    """
    torch.empty(31 << 17, dtype=torch.float64)
