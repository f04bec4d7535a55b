"""APGD, automatic projected gradient descent (Croce and Hein 2020, arXiv 2003.01690, Algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from latentopt.arguments import checked
from latentopt.batch_math import per_sample, sample_norm, where_rows
from latentopt.errors import InputError, positive, within
from latentopt.optimizers.base import Cost, Optimizer, Step
from latentopt.problem import Batch


class APGDState(NamedTuple):
    t: int  # steps done
    previous: Tensor  # (B, *shape) the iterate before
    value: Tensor  # (B,) objective there; -inf before the first step
    best_x: Tensor  # (B, *shape) the best iterate so far
    best_grad: Tensor  # (B, *shape) gradient there
    best: Tensor  # (B,) objective there
    eta: Tensor  # (B,) step size, in units of the set's radius
    lowered: Tensor  # (B,) long, steps since the last checkpoint that lowered the objective
    halved: Tensor  # (B,) bool, whether eta was halved at the last checkpoint
    best_at_checkpoint: Tensor  # (B,) the best at the last checkpoint


@checked
@dataclass(frozen=True)
class APGD(Optimizer):
    """Auto-PGD, projected descent with momentum that chooses the step size of each sample.

    At checkpoints, set by the planned number of steps, a sample that has stopped improving halves its step size and
    returns to its best point. A step is measured in the set's norm: the gradient's sign in a box or an l-infinity ball,
    its unit vector in an l2 ball.

    Args:
        eta: first step size, > 0, in units of the set's radius.
        alpha: weight of the new direction, in (0, 1]; the rest is momentum.
        rho: share of the steps since the last checkpoint that must lower the objective, in [0, 1].

    Raises:
        InputError: (from `init`) the set has no finite radius.
    """

    eta: float = 2.0
    alpha: float = 0.75
    rho: float = 0.75

    def __post_init__(self) -> None:
        positive("APGD.eta", self.eta)
        within("APGD.alpha", self.alpha, 0, 1, "(]")
        within("APGD.rho", self.rho, 0, 1)

    def init(self, batch: Batch, x: Tensor) -> APGDState:
        if not bool(batch.feasible.radius(x).isfinite().all()):
            raise InputError("feasible", "a set of finite radius, which APGD's steps are measured in", "an open box")
        zero = torch.zeros(len(x), dtype=torch.long, device=x.device)
        inf = torch.full_like(zero, torch.inf, dtype=torch.promote_types(x.dtype, torch.float32))
        eta = x.new_full((len(x),), self.eta)
        return APGDState(0, x, -inf, x, torch.zeros_like(x), inf, eta, zero, zero.bool(), inf)

    def step(self, batch: Batch, x: Tensor, state: APGDState) -> Step:
        evaluation, grad = batch.gradient(x)
        info = {"grad_norm": sample_norm(grad), "eta": state.eta}
        value = evaluation.value.to(state.value)
        better = value < state.best
        now = state._replace(
            t=state.t + 1,
            previous=x,
            value=value,
            best_x=where_rows(better, x, state.best_x),
            best_grad=where_rows(better, grad, state.best_grad),
            best=where_rows(better, value, state.best),
            lowered=state.lowered + (value < state.value),
        )
        marks = checkpoints(batch.steps)
        if state.t in marks:
            since = state.t - marks[max(marks.index(state.t) - 1, 0)]
            now, x, grad = self._check(now, since, x, grad)
        step_size = per_sample(now.eta, x) * batch.feasible.radius(x)
        z = batch.feasible.project(x - step_size * batch.feasible.steepest(grad))
        alpha = self.alpha if state.t else 1.0
        next_x = batch.feasible.project(x + alpha * (z - x) + (1 - alpha) * (x - state.previous))
        return Step(next_x, now, evaluation, Cost(1, 1), info)

    def _check(self, now: APGDState, since: int, x: Tensor, grad: Tensor) -> tuple[APGDState, Tensor, Tensor]:
        """Return state, iterate and gradient after a checkpoint, ``since`` steps after the last one."""
        slow = now.lowered < self.rho * since  # condition 1
        idle = ~now.halved & (now.best == now.best_at_checkpoint)  # condition 2
        halve = slow | idle
        after = now._replace(
            previous=where_rows(halve, now.best_x, now.previous),
            value=where_rows(halve, now.best, now.value),
            eta=torch.where(halve, now.eta / 2, now.eta),
            lowered=torch.zeros_like(now.lowered),
            halved=halve,
            best_at_checkpoint=now.best,
        )
        return after, after.previous, where_rows(halve, now.best_grad, grad)


def checkpoints(steps: int) -> list[int]:
    """Return the numbers of steps done at APGD's checkpoints: 0, then ``p_j`` of the planned steps, rounded up.

    >>> checkpoints(100)
    [0, 22, 41, 57, 70, 80, 87, 93, 99]
    """
    percent = [0, 22]
    while percent[-1] < 100:
        percent.append(percent[-1] + max(percent[-1] - percent[-2] - 3, 6))
    return list(dict.fromkeys(-(-p * steps // 100) for p in percent if p <= 100))
