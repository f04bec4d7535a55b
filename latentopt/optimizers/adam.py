"""Adam (Kingma and Ba 2015, arXiv 1412.6980), projected; elementwise, so samples do not touch each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from latentopt.arguments import checked
from latentopt.errors import InputError, nonnegative
from latentopt.optimizers.base import Schedule, ScheduledDescent, squared, usable_eps
from latentopt.problem import Batch


class AdamState(NamedTuple):
    t: int  # steps done
    mean: Tensor  # (B, *shape) of the gradients
    square: Tensor  # (B, *shape) mean of their squares


@checked
@dataclass(frozen=True)
class Adam(ScheduledDescent):
    """Adam with a falling step size; in a Euclidean ball all coordinates of a sample share one mean square.

    Args:
        lr: first step size, > 0, in units of the input.
        betas: decay of the two means, in [0, 1).
        eps: added to the root of the mean square, >= 0. Far under torch's 1e-8, because gradients of a mean squared
            error over many pixels are small.
        schedule: how the step size falls over the planned steps.
    """

    lr: float = 0.2
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-12
    schedule: Schedule = "cosine"

    def __post_init__(self) -> None:
        super().__post_init__()
        nonnegative("Adam.eps", self.eps)
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise InputError("Adam.betas", "two numbers in [0, 1)", self.betas)

    def init(self, batch: Batch, x: Tensor) -> AdamState:
        return AdamState(0, torch.zeros_like(x), torch.zeros_like(x))

    def update(self, batch: Batch, x: Tensor, grad: Tensor, state: AdamState) -> tuple[Tensor, AdamState]:
        t = state.t + 1
        mean = self.betas[0] * state.mean + (1 - self.betas[0]) * grad
        square = self.betas[1] * state.square + (1 - self.betas[1]) * squared(batch.feasible, grad)
        m, v = mean / (1 - self.betas[0] ** t), square / (1 - self.betas[1] ** t)
        lr = self.step_size(batch, state.t)
        return batch.feasible.project(x - lr * m / (v**0.5 + usable_eps(self.eps, v))), AdamState(t, mean, square)
