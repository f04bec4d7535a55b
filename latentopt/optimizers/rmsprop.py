"""RMSProp (Tieleman and Hinton 2012), projected; elementwise, so samples do not touch each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from latentopt.arguments import checked
from latentopt.errors import positive
from latentopt.optimizers.base import Schedule, ScheduledDescent, check_fraction, squared, usable_eps
from latentopt.problem import Batch


class RMSPropState(NamedTuple):
    t: int  # steps done
    square: Tensor  # (B, *shape) mean of the squared gradients


@checked
@dataclass(frozen=True)
class RMSProp(ScheduledDescent):
    """RMSProp, ``v <- alpha v + (1 - alpha) g^2``, ``x <- project(x - lr_t g / (sqrt(v) + eps))``.

    v starts at 0, so the first step is ``1 / sqrt(1 - alpha)`` times as long as lr, as in torch.

    Args:
        lr: step size, > 0, in units of the input.
        alpha: decay of the mean, in [0, 1).
        eps: added to the root of the mean, > 0; small, as in `Adam`.
        schedule: how the step size falls over the planned steps.
    """

    lr: float = 0.1
    alpha: float = 0.99
    eps: float = 1e-12
    schedule: Schedule = "cosine"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fraction("RMSProp.alpha", self.alpha)
        positive("RMSProp.eps", self.eps)

    def init(self, batch: Batch, x: Tensor) -> RMSPropState:
        return RMSPropState(0, torch.zeros_like(x))

    def update(self, batch: Batch, x: Tensor, grad: Tensor, state: RMSPropState) -> tuple[Tensor, RMSPropState]:
        v = torch.lerp(squared(batch.feasible, grad), state.square, self.alpha)
        lr = self.step_size(batch, state.t)
        x = batch.feasible.project(x - lr * grad / (v.sqrt() + usable_eps(self.eps, v)))
        return x, RMSPropState(state.t + 1, v)
