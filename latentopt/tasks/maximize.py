"""Maximisation of a network's scalar output over a box."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from latentopt.networks import like
from latentopt.objectives import Unit
from latentopt.optimizers import Optimizer
from latentopt.problem import Problem
from latentopt.result import Result
from latentopt.sets import Box
from latentopt.solve import solve


def maximize(
    network: Callable[[Tensor], Tensor],
    *,
    low: float,
    high: float,
    shape: Sequence[int],
    unit: int = 0,
    optimizer: Optimizer | str = "adr-gd",
    steps: int = 300,
    restarts: int = 1,
    seed: int = 0,
    start: Tensor | None = None,
) -> Result:
    """The input in ``[low, high]`` that makes an output unit largest.

    Args:
        network: maps (B, *shape) to (B, ...).
        low: least value of every coordinate.
        high: greatest.
        shape: shape of one input.
        unit: index of the unit in the flattened output.
        optimizer: as in `latentopt.solve`, like the rest; ``start`` is (1, *shape).

    Returns:
        A `Result` of one sample. ``value`` is what was minimised: minus the unit.
    """
    example = like(network) if isinstance(network, nn.Module) else None
    problem = Problem(network, Unit(unit), shape, 1, Box(low, high), like=example)
    return solve(problem, optimizer, steps=steps, restarts=restarts, seed=seed, start=start)
