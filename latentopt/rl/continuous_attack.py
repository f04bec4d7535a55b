"""Attacks on continuous policies: inputs in a ball whose outputs lie farthest from those of the clean inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from latentopt.attacks.stages import Stage
from latentopt.errors import positive
from latentopt.gates import has_gates
from latentopt.optimizers import ADRGD
from latentopt.problem import Problem
from latentopt.rl.policy_network import PolicyNetwork
from latentopt.sets import Norm, bounded_ball
from latentopt.solver.callbacks import Callback
from latentopt.solver.loop import solve


@dataclass(frozen=True, eq=False)
class NegativeDistance:
    """Minus the squared distance (B,) of outputs (B, ...) from clean ones (B, ...)."""

    clean: Tensor

    def __call__(self, output: Tensor) -> Tensor:
        return -(output - self.clean).square().flatten(1).sum(1)

    def take(self, rows: Tensor) -> NegativeDistance:
        return NegativeDistance(self.clean[rows])


class FarthestInputs(NamedTuple):
    """The inputs found, and the cost."""

    x: Tensor  # (B, *shape)
    forwards: Tensor  # (B,) long
    backwards: Tensor  # (B,) long


def maximize_distance(
    network: PolicyNetwork,
    x: Tensor,
    eps: Tensor,
    norm: Norm,
    stages: Sequence[Stage],
    seed: int,
    evaluations: int | None,
    callbacks: Sequence[Callback],
) -> FarthestInputs:
    """Maximise the distance stage by stage, each from random starts: at the clean input it has no gradient.

    Args:
        network: frozen.
        x: clean inputs (B, *shape) in the network's range.
        eps: radius (B,).
        norm: of the ball.
        stages: their methods, steps and restarts are used. Among several stages, one of ADR-GD goes on without gates
            where the network has none.
        seed: of the starts and the methods' own noise.
        evaluations: forwards and backwards of an input, all stages together; None: any number.
        callbacks: as in `latentopt.solve`.
    """
    if evaluations is not None:
        positive("evaluations", evaluations, integer=True)
    with torch.no_grad():
        objective = NegativeDistance(network(x))
    problem = Problem(network, objective, x.shape[1:], len(x), bounded_ball(x, eps, norm, *network.input_range), like=x)
    best, value = x, torch.zeros(len(x), dtype=x.dtype, device=x.device)
    forwards, backwards = (torch.full((len(x),), cost, device=x.device) for cost in (1, 0))
    for stage in stages:
        left = None if evaluations is None else evaluations - int((forwards + backwards).max())
        if left is not None and left < 3 * stage.restarts + 1:
            break
        settings = {"steps": stage.steps, "restarts": stage.restarts, "seed": seed, "callbacks": callbacks}
        settings |= {"evaluations": left}
        optimizer = stage.method
        if len(stages) > 1 and isinstance(optimizer, ADRGD) and not has_gates(network, x):
            optimizer = optimizer.descent
        result = solve(problem, optimizer, **settings)
        better = result.value < value * (1 + 1e-6)  # the earlier of inputs that are equal to rounding
        best = torch.where(better.reshape(-1, *[1] * (x.ndim - 1)), result.x, best)
        value = torch.where(better, result.value, value)
        forwards, backwards = forwards + result.forwards, backwards + result.backwards
    return FarthestInputs(best, forwards, backwards)
