"""What is asked of a chain: the maximum over rows of its outputs, over a box; read from a problem."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from latentopt.analysis.certify.chain import Chain
from latentopt.analysis.certify.read import read_chain
from latentopt.classification import Misclassify, loss_function, margin
from latentopt.draws import Draws
from latentopt.errors import InputError, nonnegative
from latentopt.networks import output_shape
from latentopt.objectives import Objective
from latentopt.problem import Problem
from latentopt.sets import Box, BoxAndBall, FeasibleSet, LinfBall

OBJECTIVES = "one that is affine in the output, or the margin of one class over the others"


@dataclass(frozen=True, eq=False)
class Question:
    """``max_r f_r(x)`` over ``low <= x <= high``: each chain has one output."""

    chains: tuple[Chain, ...]  # of the inputs (n,), flattened
    low: Tensor  # (n,) float64
    high: Tensor  # (n,)
    shape: tuple[int, ...]  # of one input

    def value(self, x: Tensor) -> Tensor:
        """The maximum (rows,) of the chains at ``x`` (rows, n)."""
        return torch.cat([chain(x) for chain in self.chains], 1).amax(1)


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
    one = problem.rows(row, Draws(0, torch.zeros_like(row)), steps=1)
    low, high = corners(one.feasible, one.like.new_empty(1, *one.shape))
    chain = read_chain(one.network, low, high)
    shape = output_shape(one.network, low[None].to(one.like), "problem")
    pairs = rows_of(one.objective, shape, one.like)
    chains = tuple(chain.row(row, offset) for row, offset in pairs)
    return Question(chains, low.flatten(), high.flatten(), tuple(one.shape))


def corners(feasible: FeasibleSet, like: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the greatest point (*shape) of a set that is a box, float64; ``like`` (1, *shape).

    Raises:
        InputError: it is none, or not bounded.
    """
    ball = feasible.ball if isinstance(feasible, BoxAndBall) else feasible
    if not isinstance(ball, Box | LinfBall):
        raise InputError("feasible", "a box, or an l-infinity ball", type(ball).__name__)
    ones = torch.ones_like(like, dtype=torch.float64)
    low, high = (feasible.extreme(sign * ones)[0].double() for sign in (1, -1))
    return low, high


def rows_of(objective: Objective, shape: tuple[int, ...], like: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Rows (out,) and offsets () of minus an objective on an output (*shape), whose maximum it is.

    Raises:
        InputError: it is not as `OBJECTIVES` says, or the label is no class.
    """
    if isinstance(objective, Misclassify) and objective.targets is None:
        if loss_function(objective.loss) is not margin:
            raise InputError("objective", OBJECTIVES, f"the loss {objective.loss}")
        return _margins(int(objective.labels[0]), prod(shape), like)
    row, offset = _affine(objective, shape, like)
    return [(-row, -offset)]


def _margins(label: int, classes: int, like: Tensor) -> list[tuple[Tensor, Tensor]]:
    if not 0 <= label < classes or classes < 2:
        raise InputError("labels", f"one of {classes} classes, two or more", label)
    eye = torch.eye(classes, dtype=torch.float64, device=like.device)
    return [(eye[k] - eye[label], eye.new_zeros(())) for k in range(classes) if k != label]


def _affine(objective: Objective, shape: tuple[int, ...], like: Tensor) -> tuple[Tensor, Tensor]:
    """Row (out,) and offset () of an objective, told by zero and the unit vectors, and tried elsewhere."""
    size = prod(shape)
    trial = torch.randn(4, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    probes = torch.cat([torch.zeros(1, size), torch.eye(size), trial]).to(like.device)
    values = torch.cat([objective(probe.reshape(1, *shape)) for probe in probes]).double()
    offset, row = values[0], values[1 : size + 1] - values[0]
    error = (probes[size + 1 :] @ row + offset - values[size + 1 :]).abs().max()
    if not bool(error <= 1e-6 * (1 + row.abs().sum())):
        raise InputError("objective", OBJECTIVES, type(objective).__name__)
    return row, offset
