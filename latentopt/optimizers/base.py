"""The interface of every optimiser: pure functions `init` and `step`; only `latentopt.solve` iterates."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from latentopt._deprecated import old_attribute, renamed_keywords
from latentopt.batch_math import per_sample, sample_norm
from latentopt.errors import InputError, positive, within
from latentopt.problem import Batch, Evaluation
from latentopt.sets import FeasibleSet

State = Any
"""A named tuple (nested as needed) of tensors with a leading batch dimension and of numbers that all samples share."""


class Cost(NamedTuple):
    """Passes that a step costs each sample."""

    forwards: int
    backwards: int


@renamed_keywords(here="evaluation")
class Step(NamedTuple):
    """Result of one step."""

    x: Tensor  # (B, *shape) the next iterate, in the feasible set
    state: State
    evaluation: Evaluation  # of the real network at the iterate the step started from
    cost: Cost
    info: dict[str, Tensor] = {}  # name to (B,), for the history

    here = old_attribute("Step", "here", "evaluation")


class Optimizer(ABC):
    """A method of optimisation. Frozen: it holds hyperparameters only; all that changes is in the state."""

    recovers = False  # no annotation: recipes take annotated names for arguments
    """Whether it continues by itself from an iterate where the objective is not finite, as a line search does."""
    gradient_free = False
    """Whether it never asks for a gradient."""
    drives_gates = False
    """Whether it drives the gates of the network, which then needs piecewise-linear activations."""

    @abstractmethod
    def init(self, batch: Batch, x: Tensor) -> State:
        """Return the state before the first step, without evaluating the network.

        Args:
            batch: the rows to optimise.
            x: (B, *shape), the start.

        Returns:
            The method's state.
        """

    @abstractmethod
    def step(self, batch: Batch, x: Tensor, state: State) -> Step:
        """Take one step. Pure: no argument changes, randomness comes from `batch.noise`.

        Args:
            batch: the rows to optimise.
            x: (B, *shape), the iterate.
            state: the method's state.

        Returns:
            The next iterate and state, the evaluation at ``x``, and the cost.
        """


class Descent(Optimizer):
    """A method that needs one gradient a step, and only defines the update."""

    @abstractmethod
    def update(self, batch: Batch, x: Tensor, grad: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the next iterate and state.

        Args:
            batch: the rows to optimise.
            x: (B, *shape), the iterate.
            grad: (B, *shape), the gradient at ``x``.
            state: the method's state.

        Returns:
            The next iterate (B, *shape) and state.
        """

    def step(self, batch: Batch, x: Tensor, state: State) -> Step:
        evaluation, grad = batch.gradient(x)
        next_x, state = self.update(batch, x, grad, state)
        info = {"grad_norm": sample_norm(grad)} if batch.record else {}
        return Step(next_x, state, evaluation, Cost(1, 1), info)


Schedule = Literal["constant", "linear", "quadratic", "cosine", "exponential", "ramp"]
LAST_FACTOR = 1 / 500
"""Factor at the end of the exponential schedule."""


class ScheduledDescent(Descent):
    """A descent whose step size ``lr`` follows a ``schedule``."""

    lr: float
    schedule: Schedule

    def __post_init__(self) -> None:
        positive(f"{type(self).__name__}.lr", self.lr)
        check_schedule(f"{type(self).__name__}.schedule", self.schedule)

    def step_size(self, batch: Batch, t: int) -> float:
        """Return the step size that the schedule gives.

        Args:
            batch: the rows, with the planned number of steps.
            t: number of the step, from 0.

        Returns:
            ``lr`` times the factor of the schedule.
        """
        return self.lr * scheduled(self.schedule, t, batch.steps)


def check_schedule(name: str, value: object) -> None:
    """Raise `InputError` unless ``value`` is a `Schedule`."""
    if value not in get_args(Schedule):
        raise InputError(name, f"one of {', '.join(get_args(Schedule))}", repr(value))


def check_fraction(name: str, value: float) -> None:
    """Raise `InputError` unless ``value`` is in [0, 1)."""
    within(name, value, 0, 1, "[)")


def squared(feasible: FeasibleSet, grad: Tensor) -> Tensor:
    """Return ``grad`` squared, by whose root adaptive methods divide; in a Euclidean ball its mean over the sample.

    With steps ``D g``, D diagonal, the projected method stops where x is along ``D g``, but the optimum of a ball lies
    along g.
    """
    square = grad * grad
    if not feasible.round:
        return square
    return per_sample(square.flatten(1).mean(1), square).expand_as(square)


def usable_eps(eps: float, like: Tensor) -> float:
    """Return what is added to a divisor; in half precision, where ``eps`` would be 0, the least normal number."""
    return max(eps, torch.finfo(like.dtype).tiny) if eps else eps


def scheduled(schedule: Schedule, t: int, steps: int) -> float:
    """Return the factor of the step size at step ``t`` (from 0) of ``steps``, which falls from 1 towards 0.

    ``ramp`` rises from 0 over the first twentieth and falls by a cosine over the last quarter (arXiv 1912.04958).
    """
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
            return LAST_FACTOR**p
        case "ramp":
            return min(1.0, p / 0.05) * (1 - math.cos(math.pi * min(1.0, (1 - p) / 0.25))) / 2
