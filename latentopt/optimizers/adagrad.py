"""Adagrad (Duchi et al. 2011), projected; elementwise, so samples do not touch each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from latentopt.arguments import checked
from latentopt.errors import positive
from latentopt.optimizers.base import Schedule, ScheduledDescent, squared, usable_eps
from latentopt.problem import Batch


class AdagradState(NamedTuple):
    t: int  # steps done
    total: Tensor  # (B, *shape) sum of the squared gradients


@checked
@dataclass(frozen=True)
class Adagrad(ScheduledDescent):
    """Adagrad, ``v <- v + g^2``, ``x <- project(x - lr_t g / (sqrt(v) + eps))``.

    The first step moves each coordinate by lr.

    Args:
        lr: first step size, > 0, in units of the input.
        eps: added to the root of the sum, > 0; small, as in `Adam`.
        schedule: how the step size falls over the planned steps, besides the growing sum.
    """

    lr: float = 0.5
    eps: float = 1e-12
    schedule: Schedule = "constant"

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("Adagrad.eps", self.eps)

    def init(self, batch: Batch, x: Tensor) -> AdagradState:
        return AdagradState(0, torch.zeros_like(x))

    def update(self, batch: Batch, x: Tensor, grad: Tensor, state: AdagradState) -> tuple[Tensor, AdagradState]:
        v = state.total + squared(batch.feasible, grad)
        lr = self.step_size(batch, state.t)
        x = batch.feasible.project(x - lr * grad / (v.sqrt() + usable_eps(self.eps, v)))
        return x, AdagradState(state.t + 1, v)
