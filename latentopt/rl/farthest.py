"""Inputs in a ball whose outputs lie farthest from the clean one's: attacks where there is no class to leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from latentopt.attacks.stages import Stage
from latentopt.errors import positive
from latentopt.gates import has_gates
from latentopt.optimizers import ADRGD, Optimizer
from latentopt.problem import Problem
from latentopt.rl.policy_network import PolicyNetwork
from latentopt.sets import Norm, bounded_ball
from latentopt.solver.callbacks import Callback
from latentopt.solver.loop import solve


@dataclass(frozen=True, eq=False)
class Near:
    """Minus the squared distance (B,) of outputs (B, ...) from ``clean`` (B, ...): minimised, they move away."""

    clean: Tensor

    def __call__(self, output: Tensor) -> Tensor:
        return -(output - self.clean).square().flatten(1).sum(1)

    def take(self, rows: Tensor) -> Near:
        return Near(self.clean[rows])


class Farthest(NamedTuple):
    """What the search found."""

    x: Tensor  # (B, *shape)
    forwards: Tensor  # (B,) long
    backwards: Tensor  # (B,) long


def farthest(
    network: PolicyNetwork,
    x: Tensor,
    eps: Tensor,
    norm: Norm,
    stages: Sequence[Stage],
    seed: int,
    evaluations: int | None,
    callbacks: Sequence[Callback],
) -> Farthest:
    """Search stage by stage, each from random starts: at the clean input the distance has no gradient.

    Args:
        network: frozen.
        x: clean inputs (B, *shape) in the network's range.
        eps: radius (B,).
        norm: of the ball.
        stages: their losses, targets and starts say nothing here; the gates of an ADR-GD that the network does not
            have are left out where there are several.
        seed: of the starts and the methods' own noise.
        evaluations: forwards and backwards of an input; each stage gets what is left; None: any number.
        callbacks: as in `latentopt.solve`.
    """
    if evaluations is not None:
        positive("evaluations", evaluations, integer=True)
    with torch.no_grad():
        objective = Near(network(x))
    problem = Problem(network, objective, x.shape[1:], len(x), bounded_ball(x, eps, norm, *network.input_range), like=x)
    best, value = x, torch.zeros(len(x), dtype=x.dtype, device=x.device)
    forwards, backwards = (torch.full((len(x),), cost, device=x.device) for cost in (1, 0))
    for stage in stages:
        left = None if evaluations is None else evaluations - int((forwards + backwards).max())
        if left is not None and left < 3 * stage.restarts + 1:
            break
        settings = {"steps": stage.steps, "restarts": stage.restarts, "seed": seed, "callbacks": callbacks}
        settings |= {"evaluations": left}
        found = solve(problem, _fitting(stage.method, network, x, len(stages) > 1), **settings)
        better = found.value < value * (1 + 1e-6)  # of what is as good to rounding, what came first
        best = torch.where(better.reshape(-1, *[1] * (x.ndim - 1)), found.x, best)
        value = torch.where(better, found.value, value)
        forwards, backwards = forwards + found.forwards, backwards + found.backwards
    return Farthest(best, forwards, backwards)


def _fitting(optimizer: Optimizer, network: PolicyNetwork, x: Tensor, several: bool) -> Optimizer:
    if several and isinstance(optimizer, ADRGD) and not has_gates(network, x):
        return optimizer.descent
    return optimizer
