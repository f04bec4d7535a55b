"""Perturbed gradient descent (Jin et al. 2017, arXiv 1703.00887, Alg. 2): noise leaves saddle points; projected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from latentopt.arguments import checked
from latentopt.batch_math import per_sample, sample_norm, unit, where_rows
from latentopt.errors import nonnegative
from latentopt.optimizers.base import Schedule, ScheduledDescent
from latentopt.problem import Batch


class PerturbedGDState(NamedTuple):
    t: int  # steps done
    noisy: Tensor  # (B,) long, step of the last noise
    steep: Tensor  # (B,) greatest gradient norm so far


@checked
@dataclass(frozen=True)
class PerturbedGD(ScheduledDescent):
    """Gradient descent, with noise ``x <- project(x + xi)`` where the gradient is small.

    xi is uniform in the ball of radius r. The paper descends from the noisy point in the same iteration, at the cost of
    a second gradient; here that is the next step, so every step costs one gradient. The paper returns the point before
    the noise if that did not help; here the loop keeps the best point.

    Args:
        lr: step size, > 0; with ``normalize`` the Euclidean length of a step.
        r: radius of the noise, >= 0, in units of the input.
        g_thres: noise where the norm of the gradient is at most this, >= 0; with ``normalize`` in units of the greatest
            norm that the sample has met ...
        t_thres: ... and more than this many steps, >= 0, have passed since its last noise.
        normalize: divide each sample's gradient by its norm; False is the paper's method.
        schedule: how the step size falls over the planned steps; the noise does not.
    """

    lr: float = 1.0
    r: float = 0.1
    g_thres: float = 1e-3
    t_thres: int = 10
    normalize: bool = True
    schedule: Schedule = "cosine"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("r", "g_thres", "t_thres"):
            nonnegative(f"PerturbedGD.{name}", getattr(self, name), integer=name == "t_thres")

    def init(self, batch: Batch, x: Tensor) -> PerturbedGDState:
        noisy = torch.full((len(x),), -self.t_thres - 1, device=x.device)  # so that noise may come at once
        return PerturbedGDState(0, noisy, x.new_zeros(len(x)))

    def update(self, batch: Batch, x: Tensor, grad: Tensor, state: PerturbedGDState) -> tuple[Tensor, PerturbedGDState]:
        t, norm = state.t, sample_norm(grad)
        steep = torch.maximum(state.steep, norm)
        flat = norm <= (self.g_thres * steep if self.normalize else self.g_thres)
        stuck = flat & (t - state.noisy > self.t_thres)
        step = -self.step_size(batch, t) * (unit(grad) if self.normalize else grad)
        if bool(stuck.any()):
            step = where_rows(stuck, self.r * _in_unit_ball(batch, x, t), step)
        noisy = torch.where(stuck, t, state.noisy)
        return batch.feasible.project(x + step), PerturbedGDState(t + 1, noisy, steep)


def _in_unit_ball(batch: Batch, x: Tensor, t: int) -> Tensor:
    """Draw points (B, *shape), uniform in the unit ball."""
    radius = batch.noise.uniform(x.new_empty(len(x)), "reach", t) ** (1 / x[0].numel())
    return per_sample(radius, x) * unit(batch.noise.normal(x, "noise", t))
