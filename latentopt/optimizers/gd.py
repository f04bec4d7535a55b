"""Gradient descent, projected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from latentopt.arguments import checked
from latentopt.batch_math import per_sample, sample_norm, unit
from latentopt.errors import positive
from latentopt.optimizers.base import Schedule, ScheduledDescent
from latentopt.problem import Batch


class GDState(NamedTuple):
    t: int  # steps done


@checked
@dataclass(frozen=True)
class GD(ScheduledDescent):
    """Projected gradient descent, ``x <- project(x - lr_t g)``.

    Args:
        lr: step size, > 0; with ``normalize`` the Euclidean length of a step.
        normalize: divide each sample's gradient by its norm.
        clip: greatest norm of a gradient, > 0; longer ones are scaled down to it. None: no limit.
        schedule: how the step size falls over the planned steps.
    """

    lr: float = 1.0
    normalize: bool = False
    clip: float | None = None
    schedule: Schedule = "constant"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clip is not None:
            positive("GD.clip", self.clip)

    def init(self, batch: Batch, x: Tensor) -> GDState:
        return GDState(0)

    def update(self, batch: Batch, x: Tensor, grad: Tensor, state: GDState) -> tuple[Tensor, GDState]:
        direction = unit(grad) if self.normalize else grad
        if self.clip is not None:
            direction = direction * (self.clip / per_sample(sample_norm(direction), x)).clamp_max(1)
        return batch.feasible.project(x - self.step_size(batch, state.t) * direction), GDState(state.t + 1)
