"""What is asked of a chain: the maximum over rows of its outputs, over a box; read from a problem."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from latentopt.analysis.certify.chain import Chain
from latentopt.analysis.certify.read import ROUNDINGS, in_float64, read_chain
from latentopt.classification import Misclassify, loss_function, margin
from latentopt.errors import InputError, nonnegative
from latentopt.networks.freezing import frozen
from latentopt.noise import Noise
from latentopt.objectives import Objective, take
from latentopt.problem import Problem
from latentopt.sets import Box, BoxAndBall, FeasibleSet, LinfBall

OBJECTIVES = "one that is piecewise linear in the output (no max), or the margin of one class over the others"


@dataclass(frozen=True, eq=False)
class Question:
    """``unit * max_r f_r(x)`` over ``low <= x <= high``: each chain has one output."""

    chains: tuple[Chain, ...]  # of the inputs (n,), flattened; balanced
    unit: float  # a power of two
    low: Tensor  # (n,) float64
    high: Tensor  # (n,)
    shape: tuple[int, ...]  # of one input
    function: Callable[[Tensor], Tensor]  # (rows, *shape) float64 to (rows,): what is asked of, as the problem has it

    def value(self, x: Tensor) -> Tensor:
        """The maximum (rows,) of the chains at ``x`` (rows, n)."""
        return torch.cat([chain(x) for chain in self.chains], 1).amax(1)

    def check(self, x: Tensor) -> None:
        """Raise `InputError` where the problem's own value at ``x`` (rows, n) is not the chains'."""
        reach = torch.maximum(self.low.abs(), self.high.abs())
        rounding = ROUNDINGS * max(chain.rounding(reach)[-1] for chain in self.chains)
        own = self.function(x.reshape(-1, *self.shape))
        if not bool(((own / self.unit - self.value(x)).abs() <= rounding).all()):
            raise InputError("objective", OBJECTIVES, "another one")


@torch.no_grad()
def question(problem: Problem, sample: int = 0) -> Question:
    """Minus the objective of one sample of a problem, as a question.

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
    one = problem.rows(row, Noise(0, torch.zeros_like(row)), steps=1)
    low, high = corners(one.feasible, one.like.new_empty(1, *one.shape))
    network = in_float64(one.network)
    with frozen(network):
        function = minus(one.objective, network)
        base, pairs = _rows(one.objective, network, function, low, high)
        reach = torch.maximum(low.abs(), high.abs()).flatten()
        chains = [base.row(row, offset) for row, offset in pairs]
        unit = max(chain.unit(reach) for chain in chains)
        chains = tuple(chain.balanced(reach, unit) for chain in chains)
        asked = Question(chains, unit, low.flatten(), high.flatten(), tuple(one.shape), function)
        asked.check(_samples(asked))
    return asked


def minus(objective: Objective, network: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Minus the objective of one sample, as a function of inputs (rows, *shape): (rows,)."""

    def function(x: Tensor) -> Tensor:
        rows = torch.zeros(len(x), dtype=torch.long, device=x.device)
        values = take(objective, rows)(take(network, rows)(x))
        if not isinstance(values, Tensor) or values.shape != rows.shape:
            came = getattr(values, "shape", type(values).__name__)
            raise InputError("objective", f"one value a sample, shape ({len(rows)},)", came)
        return -values

    return function


def corners(feasible: FeasibleSet, like: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the greatest point (*shape) of a set that is a box, float64; ``like`` (1, *shape).

    Raises:
        InputError: it is none, or not bounded.
    """
    ball = feasible.ball if isinstance(feasible, BoxAndBall) else feasible
    if not isinstance(ball, Box | LinfBall):
        raise InputError("feasible", "a box, or an l-infinity ball", type(ball).__name__)
    ones = (torch.ones_like(like), torch.ones_like(like, dtype=torch.float64))  # the bounds, and as inputs have them
    low, high = ([feasible.lmo(sign * one)[0].double() for one in ones] for sign in (1, -1))
    return torch.minimum(*low), torch.maximum(*high)


def _rows(
    objective: Objective, network: Callable[[Tensor], Tensor], function: Callable[[Tensor], Tensor], low, high
) -> tuple[Chain, list[tuple[Tensor, Tensor]]]:
    """A chain, and rows (out,) and offsets () of its outputs whose maximum is asked.

    Raises:
        InputError: the network is no chain, the objective is not as `OBJECTIVES` says, or the label is no class.
    """
    if isinstance(objective, Misclassify) and objective.targets is None:
        if loss_function(objective.loss) is not margin:
            raise InputError("objective", OBJECTIVES, f"the loss {objective.loss}")
        chain = read_chain(network, low, high)
        return chain, _margins(int(objective.labels[0]), len(chain.layers[-1].bias), low)
    try:
        chain = read_chain(function, low, high)
    except InputError as error:
        read_chain(network, low, high)  # raises where the network is to blame
        raise InputError("objective", OBJECTIVES, error.got) from error
    return chain, [(low.new_ones(1), low.new_zeros(()))]


def _margins(label: int, classes: int, like: Tensor) -> list[tuple[Tensor, Tensor]]:
    if not 0 <= label < classes or classes < 2:
        raise InputError("labels", f"one of {classes} classes, two or more", label)
    eye = torch.eye(classes, dtype=torch.float64, device=like.device)
    return [(eye[k] - eye[label], eye.new_zeros(())) for k in range(classes) if k != label]


def _samples(asked: Question, count: int = 256) -> Tensor:
    """Random points (count, n) of the box, and corners."""
    t = torch.rand(count, len(asked.low), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    t = t.to(asked.low.device)
    return asked.low + (asked.high - asked.low) * torch.cat([t, t.round()])
