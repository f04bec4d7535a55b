"""Random shooting: the best of many random points of the feasible set. Needs no gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from latentopt.arguments import checked
from latentopt.errors import positive
from latentopt.optimizers.base import Optimizer, Step
from latentopt.optimizers.candidates import evaluate_candidates
from latentopt.problem import Batch


class RandomShootingState(NamedTuple):
    t: int  # steps done


@checked
@dataclass(frozen=True)
class RandomShooting(Optimizer):
    """Random shooting: each step evaluates new random points of the set; the iterate is the best so far.

    A step costs ``samples + 1`` forwards.

    Args:
        samples: random points a step, >= 1.
    """

    samples: int = 64
    gradient_free = True

    def __post_init__(self) -> None:
        positive("RandomShooting.samples", self.samples, integer=True)

    def init(self, batch: Batch, x: Tensor) -> RandomShootingState:
        return RandomShootingState(0)

    def step(self, batch: Batch, x: Tensor, state: RandomShootingState) -> Step:
        like = x.repeat(self.samples, *[1] * (x.ndim - 1))
        rows = torch.arange(len(x), device=x.device).repeat(self.samples)
        drawn = batch.feasible.take(rows).sample(like, batch.noise.spread(self.samples, "shot", state.t))
        candidates = evaluate_candidates(batch, x, drawn.reshape(self.samples, *x.shape))
        return Step(candidates.best, RandomShootingState(state.t + 1), candidates.evaluation, candidates.cost)
