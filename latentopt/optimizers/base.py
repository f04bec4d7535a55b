"""What every optimiser is: `init` and `step`, pure functions of their arguments; only `latentopt.solve` iterates."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, Literal, NamedTuple, get_args

from torch import Tensor

from latentopt.batch_math import per_sample, sample_norm
from latentopt.errors import InputError
from latentopt.problem import Batch, Evaluation
from latentopt.sets import FeasibleSet

State = Any
"""A named tuple (nested as needed) of tensors with a leading batch dimension and of numbers that all samples share."""


class Cost(NamedTuple):
    """What a step costs each sample."""

    forwards: int
    backwards: int


class Step(NamedTuple):
    """What one step returns."""

    x: Tensor  # (B, *shape) the next iterate, in the feasible set
    state: State
    evaluation: Evaluation  # of the real network at the iterate the step started from
    cost: Cost
    info: dict[str, Tensor] = {}  # name to (B,), for the history


class Optimizer(ABC):
    """A method. Frozen: hyperparameters only; all that changes is in the state."""

    arithmetic = False  # no annotation, as below
    """Whether its steps are arithmetic alone, so that NumPy's arrays do where the problem is one of arrays."""
    recovers = False  # no annotation: recipes take the annotated names for arguments
    """Whether it goes on by itself from an iterate where the objective is not finite, as a line search does."""

    @abstractmethod
    def init(self, batch: Batch, x: Tensor) -> State:
        """The state before the first step, at the start ``x`` (B, *shape). Does not evaluate the network."""

    @abstractmethod
    def step(self, batch: Batch, x: Tensor, state: State) -> Step:
        """One step from ``x`` (B, *shape). Pure: neither argument is changed, randomness comes from `batch.noise`."""


class Descent(Optimizer):
    """A method that needs one gradient a step and says only what to do with it."""

    @abstractmethod
    def update(self, batch: Batch, x: Tensor, grad: Tensor, state: State) -> tuple[Tensor, State]:
        """The next iterate and state, given the gradient (B, *shape) at ``x``."""

    def step(self, batch: Batch, x: Tensor, state: State) -> Step:
        here, grad = batch.gradient(x)
        following, state = self.update(batch, x, grad, state)
        return Step(following, state, here, Cost(1, 1), {"grad_norm": sample_norm(grad)} if batch.record else {})


Schedule = Literal["constant", "linear", "quadratic", "cosine", "exponential"]
LAST = 1 / 500
"""Where the exponential schedule ends."""


def check_schedule(name: str) -> None:
    """Raise `InputError` unless ``name`` is a `Schedule`."""
    if name not in get_args(Schedule):
        raise InputError("schedule", f"one of {', '.join(get_args(Schedule))}", name)


def check_fraction(name: str, value: float) -> None:
    """Raise `InputError` unless ``value`` is in [0, 1)."""
    if not 0 <= value < 1:
        raise InputError(name, "a number in [0, 1)", value)


def squared(feasible: FeasibleSet, grad: Tensor) -> Tensor:
    """What methods divide by the root of: ``grad`` squared; in a Euclidean ball its mean over the sample.

    Of steps ``D g`` with a diagonal D the projected method stops where x is along ``D g``, but the optimum of a ball
    lies along g.
    """
    square = grad * grad
    if not feasible.round:
        return square
    return per_sample(square.flatten(1).mean(1), square).expand_as(square)


def scheduled(schedule: Schedule, t: int, steps: int) -> float:
    """The factor of the step size at step ``t`` (from 0) of ``steps``: from 1 towards 0, exponentially to `LAST`."""
    p = min(t / steps, 1.0)
    match schedule:
        case "constant":
            return 1.0
        case "linear":
            return 1 - p
        case "quadratic":
            return (1 - p) ** 2
        case "cosine":
            return (1 + math.cos(math.pi * p)) / 2
        case "exponential":
            return LAST**p
