"""Maximisation of a network's scalar output over a box."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from torch import Tensor

from latentopt.arguments import Named, Values, as_values, checked
from latentopt.autodiff import outside_inference_mode
from latentopt.batch_math import cpu_tensor
from latentopt.errors import InputError, as_shape, nonnegative
from latentopt.networks.checks import output_shape
from latentopt.networks.outputs import Pick, adapt
from latentopt.objectives import Unit
from latentopt.optimizers import Optimizer
from latentopt.problem import Problem
from latentopt.sets import Box
from latentopt.solver.loop import solve
from latentopt.solver.result import Result


@outside_inference_mode
@checked
def maximize(
    network: Callable[[Tensor], Any],
    *,
    low: Values,
    high: Values,
    shape: int | Sequence[int],
    unit: int = 0,
    optimizer: Optimizer | Named = "pgd",
    steps: int = 300,
    restarts: int = 1,
    seed: int = 0,
    start: Values | Result | None = None,
    pick: Pick | None = None,
    **settings: Any,
) -> Result:
    """Find the input in ``[low, high]`` that maximises an output unit.

    Args:
        network: maps (B, *shape) to (B, ...), or to several outputs of which one counts.
        low: least value: a number for every coordinate, or a tensor, an array or a list that broadcasts to ``shape``.
        high: greatest value, as ``low``.
        shape: shape of one input, 8 for (8,).
        unit: index of the unit in the flattened output, from 0.
        optimizer: a method, or its name, as in `latentopt.solve`.
        steps: steps of each restart, >= 1.
        restarts: independent starts, >= 1.
        seed: seed of every random number.
        start: input (*shape) of the first restart, or as in `latentopt.solve`.
        pick: as in `latentopt.Problem`.
        settings: other arguments of `latentopt.solve`: budgets, checkpoint, callbacks.

    Returns:
        A `Result` of one sample, whose ``value`` is minus the unit.

    Raises:
        InputError: as `latentopt.solve`; or the bounds are not finite, cross or do not fit the shape, the network does
            not take inputs of this shape, or it has no such unit. One forward finds that out, which is not counted.
    """
    nonnegative("unit", unit, integer=True)
    shape = as_shape("shape", shape)
    problem = Problem(network, Unit(unit), shape, 1, _finite_box(low, high, shape), pick=pick)
    lowest = problem.feasible.lmo(problem.like.new_ones(1, *shape))
    units = prod(output_shape(adapt(network, pick=pick), lowest, "shape"))
    if unit >= units:
        raise InputError("unit", f"one of the {units} output units, from 0", unit)
    return solve(problem, optimizer, steps=steps, restarts=restarts, seed=seed, start=start, **settings)


def _finite_box(low: Values, high: Values, shape: Sequence[int]) -> Box:
    for name, bound in (("low", as_values("low", low)), ("high", as_values("high", high))):
        if not bool(cpu_tensor(bound).isfinite().all()):
            raise InputError(name, "finite bounds", "NaN or infinity")
    try:
        box = Box(low, high)
        box.broadcast_to((1, *shape), cpu_tensor(0.0))
    except InputError as error:
        raise InputError(
            error.name.removeprefix("Box").removeprefix(".") or "low", error.expected, error.got
        ) from error
    return box
