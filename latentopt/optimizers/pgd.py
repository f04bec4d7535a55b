"""Projected gradient descent in the norm of the feasible set (Madry et al. 2018, arXiv 1706.06083), with momentum.

The momentum is that of MI-FGSM (Dong et al. 2018, arXiv 1710.06081), which divides the gradient by its L1 norm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from latentopt.arguments import checked
from latentopt.batch_math import unit
from latentopt.errors import InputError
from latentopt.optimizers.base import Schedule, ScheduledDescent, check_fraction
from latentopt.problem import Batch


class PGDState(NamedTuple):
    t: int  # steps done
    m: Tensor  # (B, *shape) momentum


@checked
@dataclass(frozen=True)
class PGD(ScheduledDescent):
    """Projected gradient descent, ``m <- momentum m + g / ||g||_2``, ``x <- project(x - lr_t radius s(m))``.

    ``s(m)`` is the step of norm 1 along which a function with gradient m rises most: ``sign(m)`` in boxes and Linf
    balls, ``m / ||m||_2`` elsewhere. The radius is the set's: half the width of a box, ``eps`` of a ball. The defaults
    are the best found for boxes: the first steps cross half the box.

    Args:
        lr: first step size, > 0, in units of the radius.
        momentum: share of m that a step keeps, in [0, 1).
        schedule: how the step size falls over the planned steps.
        relative: False: ``lr`` is in units of the input.

    Raises:
        InputError: (from the start) ``relative``, and the set has no finite radius.
    """

    lr: float = 1.0
    momentum: float = 0.5
    schedule: Schedule = "quadratic"
    relative: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fraction("PGD.momentum", self.momentum)

    def init(self, batch: Batch, x: Tensor) -> PGDState:
        if self.relative and not bool(batch.feasible.radius(x).isfinite().all()):
            raise InputError("feasible", "a set of finite radius, or PGD(relative=False)", "one that is open")
        return PGDState(0, torch.zeros_like(x))

    def update(self, batch: Batch, x: Tensor, grad: Tensor, state: PGDState) -> tuple[Tensor, PGDState]:
        feasible = batch.feasible
        m = self.momentum * state.m + unit(grad)
        lr = self.step_size(batch, state.t)
        length = lr * feasible.radius(x) if self.relative else lr
        return feasible.project(x - length * feasible.steepest(m)), PGDState(state.t + 1, m)
