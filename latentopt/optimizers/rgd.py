"""Raw gradient descent (Yang et al. 2023, arXiv 2312.01260): the steps add up in a hidden variable, never clipped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from latentopt.arguments import checked
from latentopt.batch_math import unit
from latentopt.optimizers.base import Schedule, ScheduledDescent
from latentopt.problem import Batch


class RGDState(NamedTuple):
    t: int  # steps done
    v: Tensor  # (B, *shape) the hidden variable


@checked
@dataclass(frozen=True)
class RGD(ScheduledDescent):
    """Raw gradient descent, ``v <- v - lr_t g(x)``, ``x <- project(v)``, from ``v = x``.

    The hidden variable keeps what projections cut off, and unlike sign steps it tells coordinates apart.

    Args:
        lr: step size, > 0; with ``normalize`` the Euclidean length of a step.
        normalize: divide each sample's gradient by its norm, because raw gradients have no scale of their own; False
            is the paper's method.
        schedule: how the step size falls over the planned steps.
    """

    lr: float = 1.0
    normalize: bool = True
    schedule: Schedule = "cosine"

    def init(self, batch: Batch, x: Tensor) -> RGDState:
        return RGDState(0, x.clone())

    def update(self, batch: Batch, x: Tensor, grad: Tensor, state: RGDState) -> tuple[Tensor, RGDState]:
        v = state.v - self.step_size(batch, state.t) * (unit(grad) if self.normalize else grad)
        return batch.feasible.project(v), RGDState(state.t + 1, v)
