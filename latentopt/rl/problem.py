"""The problem of the best action near an actor's: in general, and in closed form where the critic is a ReLU chain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from latentopt.draws import Draws
from latentopt.problem import Evaluation, Problem
from latentopt.rl.closed_form import ClosedForm, Seen
from latentopt.rl.critics import Reduce, Values, reduced
from latentopt.sets import FeasibleSet


class ActionValues(nn.Module):
    """Scaled actions (copies * B, A), copy by copy, to what the n critics say of them (rows, n)."""

    def __init__(self, values: Values, observations: Tensor, middle: Tensor, half: Tensor) -> None:
        super().__init__()
        self.values, self.observations, self.middle, self.half = values, observations, middle, half

    def forward(self, u: Tensor) -> Tensor:
        copies = len(u) // len(self.observations)
        observations = self.observations.repeat(copies, *[1] * (self.observations.ndim - 1))
        return self.values(observations, self.middle + self.half * u).T

    def take(self, rows: Tensor) -> ActionValues:
        return ActionValues(self.values, self.observations[rows], self.middle, self.half)


@dataclass(frozen=True)
class Worst:
    """Minus the value that counts, of what the critics say (rows, n)."""

    critic: Reduce

    def __call__(self, values: Tensor) -> Tensor:
        return -reduced(values.T, self.critic)


class ActionProblem(Problem):
    """As `latentopt.Problem`, its values and gradients in closed form; methods that drive gates freely use autograd.

    Rows whose action is that of the last look are not looked at again: an ascent that has reached a corner of its box
    stays there.
    """

    def __init__(self, form: ClosedForm, network: ActionValues, feasible: FeasibleSet, like: Tensor) -> None:
        super().__init__(network, Worst(form.critic), like.shape[1:], len(like), feasible, like=like)
        self.form = form

    def rows(self, sample: Tensor, draws: Draws, steps: int) -> Self:
        problem = super().rows(sample, draws, steps)
        problem.form = self.form.take(sample.numpy())
        return problem

    @torch.no_grad()
    def evaluate(self, x: Tensor) -> Evaluation:
        return _evaluation(self.form.see(x.numpy()))

    @torch.no_grad()
    def gradient(self, x: Tensor) -> tuple[Evaluation, Tensor]:
        return _both(self.form.see_again(x.numpy()))

    @torch.no_grad()
    def soft_gradient(
        self, x: Tensor, tau: float | Tensor, layers: Sequence[int] | None = None
    ) -> tuple[Evaluation, Tensor]:
        if layers is not None:
            return super().soft_gradient(x, tau, layers)
        return _both(self.form.see(x.numpy(), gradient=True, tau=float(tau)))


def _evaluation(seen: Seen) -> Evaluation:
    return Evaluation(torch.from_numpy(-seen.value), torch.from_numpy(seen.values).T)


def _both(seen: Seen) -> tuple[Evaluation, Tensor]:
    assert seen.grad is not None
    return _evaluation(seen), torch.from_numpy(-seen.grad)
