"""Frank-Wolfe (Jaggi 2013), with the averaged gradient of Chen et al. 2018 (arXiv 1811.10828)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from latentopt.arguments import checked
from latentopt.batch_math import per_sample, sample_norm
from latentopt.optimizers.base import Cost, Optimizer, Step, check_fraction
from latentopt.problem import Batch


class FrankWolfeState(NamedTuple):
    t: int  # steps done
    m: Tensor  # (B, *shape) averaged gradient


@checked
@dataclass(frozen=True)
class FrankWolfe(Optimizer):
    """Frank-Wolfe, ``x <- x + 2 / (t + 2) (v - x)``; v of the set has the least inner product with m.

    ``m <- momentum m + (1 - momentum) g``. It needs no step size and, but for rounding, no projection: iterates are
    averages of the set's extreme points. The info ``gap`` is ``<m, x - v>``. Without momentum, and if the objective is
    convex, the iterate is at most that far above the optimum.

    Args:
        momentum: weight of the last averaged gradient, in [0, 1); 0 is the classical method.

    Raises:
        InputError: (from `init`) the set is not bounded.
    """

    momentum: float = 0.5

    def __post_init__(self) -> None:
        check_fraction("FrankWolfe.momentum", self.momentum)

    def init(self, batch: Batch, x: Tensor) -> FrankWolfeState:
        batch.feasible.lmo(x)
        return FrankWolfeState(0, torch.zeros_like(x))

    def step(self, batch: Batch, x: Tensor, state: FrankWolfeState) -> Step:
        evaluation, grad = batch.gradient(x)
        m = torch.lerp(grad, state.m, self.momentum)
        toward = batch.feasible.lmo(m) - x
        gap = -(m * toward).flatten(1).sum(1)
        gamma = 2 / (state.t + 2) * (gap > 0)  # stay where nothing is gained, as at gradient zero
        next_x = batch.feasible.project(x + per_sample(gamma, x) * toward)
        info = {"grad_norm": sample_norm(grad), "gap": gap}
        return Step(next_x, FrankWolfeState(state.t + 1, m), evaluation, Cost(1, 1), info)
