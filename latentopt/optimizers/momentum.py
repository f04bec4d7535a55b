"""Gradient descent with momentum, projected: the heavy ball (Polyak 1964) or Nesterov's (1983)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from latentopt.arguments import checked
from latentopt.batch_math import unit
from latentopt.optimizers.base import Schedule, ScheduledDescent, check_fraction
from latentopt.problem import Batch


class MomentumState(NamedTuple):
    t: int  # steps done
    m: Tensor  # (B, *shape) momentum


@checked
@dataclass(frozen=True)
class Momentum(ScheduledDescent):
    """Gradient descent with momentum, ``m <- momentum m + g``, ``x <- project(x - lr_t m)``.

    With ``nesterov`` the step is ``project(x - lr_t (momentum m + g))``, the form of Sutskever et al. (2013) and torch.

    Args:
        lr: step size, > 0; with ``normalize`` in units of the input. Under an unchanging gradient the steps grow to
            ``lr / (1 - momentum)`` times its length.
        momentum: share of m that a step keeps, in [0, 1).
        nesterov: take the gradient ahead along the momentum.
        normalize: divide each sample's gradient by its norm.
        schedule: how the step size falls over the planned steps.
    """

    lr: float = 0.3
    momentum: float = 0.9
    nesterov: bool = False
    normalize: bool = True
    schedule: Schedule = "cosine"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fraction("Momentum.momentum", self.momentum)

    def init(self, batch: Batch, x: Tensor) -> MomentumState:
        return MomentumState(0, torch.zeros_like(x))

    def update(self, batch: Batch, x: Tensor, grad: Tensor, state: MomentumState) -> tuple[Tensor, MomentumState]:
        g = unit(grad) if self.normalize else grad
        m = self.momentum * state.m + g
        direction = self.momentum * m + g if self.nesterov else m
        return batch.feasible.project(x - self.step_size(batch, state.t) * direction), MomentumState(state.t + 1, m)
