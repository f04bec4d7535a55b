"""The exact maxima of an agent's first critic around its actions, for some of its states."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from latentopt.bench.action_agents import States
from latentopt.bench.exact_actions import Affine, forward, maximum
from latentopt.bench.timing import timed


class Exact(NamedTuple):
    """What branch and bound says of an agent's first states."""

    name: str
    box: float
    gains: list[float]  # over the actor's action, of the best action found
    bounds: list[float]  # no action gains more
    closed: int  # of how many the two are within the tolerance
    seconds: float


def certified(met: States, box: float, count: int, seconds: float, tolerance: float = 1e-3) -> Exact:
    """The gains of the first ``count`` states; each in so many CPU seconds."""
    gains, bounds, closed = list[float](), list[float](), 0

    def run() -> None:
        nonlocal closed
        for observation, action in zip(met.observations[:count].double(), met.actions[:count].double(), strict=True):
            layers = at(met, observation)
            before = float(forward(layers, action[None]))
            low, high = (action - box).clamp_min(-1), (action + box).clamp_max(1)
            found = maximum(layers, low, high, seconds, tolerance)
            gains.append(max(found.value - before, 0.0))
            bounds.append(max(found.bound - before, 0.0))
            closed += found.gap <= tolerance

    taken = timed(run)
    return Exact(met.name, box, gains, bounds, closed, taken.cpu)


def at(met: States, observation: Tensor) -> list[Affine]:
    """The first critic's layers (float64) at an observation (S,), functions of the action alone."""
    linear = [layer for layer in met.agent.critics.networks[0].modules() if isinstance(layer, nn.Linear)]
    layers = [(layer.weight.detach().double(), layer.bias.detach().double()) for layer in linear]
    (weight, bias), size = layers[0], len(observation)
    return [(weight[:, size:], weight[:, :size] @ observation + bias), *layers[1:]]
