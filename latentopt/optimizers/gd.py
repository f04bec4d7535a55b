"""Gradient descent, projected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from latentopt.batch_math import per_sample, sample_norm, unit
from latentopt.errors import positive
from latentopt.optimizers.base import Descent, Schedule, check_schedule, scheduled
from latentopt.problem import Batch


class GDState(NamedTuple):
    t: int  # steps done


@dataclass(frozen=True)
class GD(Descent):
    """``x <- project(x - lr_t g)``.

    Args:
        lr: step size, > 0; with ``normalize`` the Euclidean length of a step.
        normalize: divide each sample's gradient by its norm.
        clip: longest gradient, > 0; a longer one is scaled down to it. None: any.
        schedule: how the step size falls over the planned steps.
    """

    lr: float = 1.0
    normalize: bool = False
    clip: float | None = None
    schedule: Schedule = "constant"

    def __post_init__(self) -> None:
        positive("GD.lr", self.lr)
        if self.clip is not None:
            positive("GD.clip", self.clip)
        check_schedule(self.schedule)

    @property
    def arithmetic(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.clip is None

    def init(self, batch: Batch, x: Tensor) -> GDState:
        return GDState(0)

    def update(self, batch: Batch, x: Tensor, grad: Tensor, state: GDState) -> tuple[Tensor, GDState]:
        lr = self.lr * scheduled(self.schedule, state.t, batch.steps)
        direction = unit(grad) if self.normalize else grad
        if self.clip is not None:
            direction = direction * (self.clip / per_sample(sample_norm(direction), x)).clamp_max(1)
        return batch.feasible.project(x - lr * direction), GDState(state.t + 1)
