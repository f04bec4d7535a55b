"""The exact maxima of an agent's first critic around its actions, for some of its states."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.action_agents import States
from benchmarks.timing import timed
from latentopt.analysis.certify import Certificate
from latentopt.analysis.certify import certify as certify_maximum
from latentopt.objectives import Unit
from latentopt.problem import Problem
from latentopt.rl.critics import FixedStateCritic
from latentopt.sets import Box


class Exact(NamedTuple):
    """What branch and bound says of an agent's first states."""

    name: str
    box: float
    gains: list[float]  # over the actor's action, of the best action found
    bounds: list[float]  # no action gains more
    closed: int  # of how many the two are within the tolerance
    seconds: float


def certified(met: States, box: float, count: int, seconds: float, tolerance: float = 1e-3) -> Exact:
    """The gains of the first ``count`` states; each in so many CPU seconds, or until the gap is below ``tolerance``."""
    gains, bounds, closed = list[float](), list[float](), 0
    critic = copy.deepcopy(met.agent.critics.networks[0]).double()

    def run() -> None:
        nonlocal closed
        for observation, action in zip(met.observations[:count].double(), met.actions[:count].double(), strict=True):
            q = FixedStateCritic(critic, observation)
            with torch.no_grad():
                before = float(q(action[None]))
            around = Box((action - box).clamp_min(-1)[None], (action + box).clamp_max(1)[None])
            problem = Problem(q, Unit(), action.shape, 1, around, like=action)
            found = _closed(problem, before, None, seconds, tolerance)
            if found.gap > tolerance:  # relative to what Q was before, it was too wide
                found = _closed(problem, found.value, found.x, seconds, tolerance)
            gains.append(max(found.value - before, 0.0))
            bounds.append(max(found.bound - before, 0.0))
            closed += found.gap <= tolerance

    taken = timed(run)
    return Exact(met.name, box, gains, bounds, closed, taken.cpu)


def _closed(problem: Problem, value: float, start: Tensor | None, seconds: float, tolerance: float) -> Certificate:
    """The maximum to within ``tolerance``, should it be about ``value``."""
    relative = tolerance / max(abs(value), tolerance) / 3
    return certify_maximum(problem, start=start, seconds=seconds, tolerance=relative, method="split")
