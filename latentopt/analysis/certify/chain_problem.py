"""The problem that a search solves: the maximum of some chains over a box, read from an optimisation problem."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from latentopt.analysis.certify.chain_reader import ROUNDINGS, read_chain, to_float64
from latentopt.analysis.certify.relu_chain import ReLUChain
from latentopt.classification import Misclassify, loss_function, margin
from latentopt.errors import InputError, nonnegative
from latentopt.networks.freezing import frozen
from latentopt.networks.outputs import adapt
from latentopt.objectives import Objective, take
from latentopt.problem import Problem
from latentopt.sets import Box, BoxAndBall, FeasibleSet, LinfBall

OBJECTIVES = "one that is piecewise linear in the output (no max), or the margin of one class over the others"


@dataclass(frozen=True, eq=False)
class ChainProblem:
    """The problem ``max scale * max_r f_r(x)`` over ``low <= x <= high``, each chain f_r with one output."""

    chains: tuple[ReLUChain, ...]  # of the flattened inputs (n,); balanced
    scale: float  # a power of two
    low: Tensor  # (n,) float64
    high: Tensor  # (n,)
    shape: tuple[int, ...]  # of one input
    function: Callable[[Tensor], Tensor]  # the user's objective, negated: (rows, *shape) float64 to (rows,)

    def value(self, x: Tensor) -> Tensor:
        """Return the chains' maximum (rows,) at ``x`` (rows, n)."""
        return torch.cat([chain(x) for chain in self.chains], 1).amax(1)

    def check(self, x: Tensor) -> None:
        """Raise `InputError` where the user's objective at ``x`` (rows, n) differs from the chains."""
        magnitude = torch.maximum(self.low.abs(), self.high.abs())
        rounding = ROUNDINGS * max(chain.rounding(magnitude)[-1] for chain in self.chains)
        values = self.function(x.reshape(-1, *self.shape))
        if not bool(((values / self.scale - self.value(x)).abs() <= rounding).all()):
            raise InputError("objective", OBJECTIVES, "another one")


@torch.no_grad()
def read_problem(problem: Problem, sample: int = 0) -> ChainProblem:
    """Read the negated objective of one sample of a problem.

    Raises:
        InputError: there is no such sample, or the network is no chain, the set no bounded box, or the objective not
            as `OBJECTIVES` says.
    """
    nonnegative("sample", sample, integer=True)
    if sample >= problem.batch:
        raise InputError("sample", f"one of the problem's {problem.batch}, from 0", sample)
    if problem.penalty is not None:
        raise InputError("problem", "one without a penalty", "one with")
    row = torch.tensor([sample], device=problem.like.device)
    single = problem.take(row)
    low, high = _corners(single.feasible, single.like.new_empty(1, *single.shape))
    network = to_float64(adapt(single.network, pick=single.pick))
    with frozen(network):
        function = _negate(single.objective, network)
        magnitude = torch.maximum(low.abs(), high.abs()).flatten()
        chains = _read_chains(single.objective, network, function, low, high)
        scale = max(chain.scale(magnitude) for chain in chains)
        balanced = tuple(chain.balance(magnitude, scale) for chain in chains)
        result = ChainProblem(balanced, scale, low.flatten(), high.flatten(), tuple(single.shape), function)
        result.check(_random_points(result))
    return result


def _negate(objective: Objective, network: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return the negated objective of one sample, as a function of inputs (rows, *shape) to (rows,)."""

    def function(x: Tensor) -> Tensor:
        rows = torch.zeros(len(x), dtype=torch.long, device=x.device)
        values = take(objective, rows)(take(network, rows)(x))
        if not isinstance(values, Tensor) or values.shape != rows.shape:
            got = getattr(values, "shape", type(values).__name__)
            raise InputError("objective", f"one value a sample, shape ({len(rows)},)", got)
        return -values

    return function


def _corners(feasible: FeasibleSet, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least and the greatest point (*shape) of a box, float64; ``like`` (1, *shape).

    Raises:
        InputError: the set is no box, or not bounded.
    """
    ball = feasible.ball if isinstance(feasible, BoxAndBall) else feasible
    if not isinstance(ball, Box | LinfBall):
        raise InputError("feasible", "a box, or an l-infinity ball", type(ball).__name__)
    ones = (torch.ones_like(like), torch.ones_like(like, dtype=torch.float64))  # bounds as inputs have them, and exact
    low, high = ([feasible.lmo(sign * one)[0].double() for one in ones] for sign in (1, -1))
    return torch.minimum(*low), torch.maximum(*high)


def _read_chains(
    objective: Objective,
    network: Callable[[Tensor], Tensor],
    function: Callable[[Tensor], Tensor],
    low: Tensor,
    high: Tensor,
) -> list[ReLUChain]:
    """Return chains of one output each, whose maximum is the negated objective.

    Raises:
        InputError: the network is no chain, the objective is not as `OBJECTIVES` says, or the label is no class.
    """
    if isinstance(objective, Misclassify) and objective.targets is None:
        if loss_function(objective.loss) is not margin:
            raise InputError("objective", OBJECTIVES, f"the loss {objective.loss}")
        chain = read_chain(network, low, high)
        label, classes = int(objective.labels[0]), len(chain.layers[-1].bias)
        if not 0 <= label < classes or classes < 2:
            raise InputError("labels", f"one of {classes} classes, two or more", label)
        eye = torch.eye(classes, dtype=torch.float64, device=low.device)
        return [chain.combine(eye[k] - eye[label]) for k in range(classes) if k != label]
    try:
        chain = read_chain(function, low, high)
    except InputError as error:
        read_chain(network, low, high)  # raises where the network is to blame
        raise InputError("objective", OBJECTIVES, error.got) from error
    return [chain.combine(low.new_ones(1))]


def _random_points(problem: ChainProblem, count: int = 256) -> Tensor:
    """Return random points (count, n) of the box, then corners (count, n)."""
    generator = torch.Generator("cpu").manual_seed(1)
    t = torch.rand(count, len(problem.low), generator=generator, dtype=torch.float64, device="cpu").to(problem.low)
    return problem.low + (problem.high - problem.low) * torch.cat([t, t.round()])
