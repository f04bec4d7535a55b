"""A problem: which input of a frozen network minimises an objective on its output, for each sample of a batch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import NamedTuple, Self, TypeVar

import torch
from torch import Tensor

from latentopt.autodiff import gradients
from latentopt.compile import Compiled
from latentopt.errors import InputError, positive
from latentopt.gates import require_gates, soft_backward
from latentopt.independence import holds, require_independent, spread
from latentopt.noise import Noise
from latentopt.objectives import Objective, take
from latentopt.sets import FeasibleSet, Free

T = TypeVar("T")
Success = Callable[[Tensor, Tensor], Tensor]
SCALES = (2.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-6, 0.0)
"""Where the success test is looked at, in values of a start, at which mostly no sample is solved yet."""


class Evaluation(NamedTuple):
    """A network and its objective at some inputs."""

    value: Tensor  # (B,) objective, detached
    output: Tensor  # (B, *out), detached


class Problem:
    """Network, objective, feasible set and success test for a batch of samples.

    Args:
        network: maps inputs (B, *shape) to outputs (B, *out), each sample by itself. Never changed. One that is
            another network for each sample has ``take(rows)``, as an objective that holds targets has, and accepts
            any number of copies of its batch, copy by copy.
        objective: maps outputs to (B,), to be minimised (`latentopt.objectives`); with ``take(rows)`` if it holds
            something for each sample, as the penalty and the success test.
        shape: shape of one input.
        batch: number of samples B. Samples that are asked the same start and end alike, unless `solve` is told a start.
        feasible: where inputs may be; also where random starts come from. Its tensors are broadcast to the batch.
        success: maps objective values (B,) and outputs to a mask (B,): these samples are solved; with ``take(rows)`` if
            it holds something for each sample. None: never.
        like: tensor whose dtype and device the inputs have; default float32 on the CPU.
        penalty: function of the inputs (B, *shape) to (B,) that is added to the objective, a prior's say; None: none.

    Raises:
        InputError: `batch` is no number of samples, or the bounds or centres of the set fit neither one input nor the
            batch.
    """

    # What `solve` fills in for an optimiser:
    draws: Noise  # the only source of randomness
    steps: int  # planned number of steps, where schedules end
    compiled: Compiled | None = None  # where passes through the network are compiled
    warns = True  # whether `solve` warns where the network is randomised; else the caller does
    tells = True  # whether a descent's steps say more than they must, for the history

    def __init__(
        self,
        network: Callable[[Tensor], Tensor],
        objective: Objective,
        shape: Sequence[int],
        batch: int,
        feasible: FeasibleSet | None = None,
        success: Success | None = None,
        like: Tensor | None = None,
        penalty: Objective | None = None,
    ) -> None:
        positive("batch", batch, integer=True)
        self.network, self.objective, self.shape, self.batch = network, objective, tuple(shape), batch
        self.success, self.penalty = success, penalty
        self.like = torch.empty(0) if like is None else like.new_empty(0)
        self.feasible = feasible or Free()

    @property
    def feasible(self) -> FeasibleSet:
        """Where inputs may be, for this batch."""
        return self._feasible

    @feasible.setter
    def feasible(self, feasible: FeasibleSet) -> None:
        self._feasible = feasible.broadcast_to((self.batch, *self.shape), self.like)

    def rows(self, sample: Tensor, draws: Noise, steps: int) -> Self:
        """The problem whose batch is the samples ``sample`` (rows,) long, each as often as it is named."""
        problem = copy.copy(self)
        problem.network, problem.objective = take(self.network, sample), take(self.objective, sample)
        problem._feasible, problem.compiled = self._feasible.take(sample), None
        problem.success = self.success and take(self.success, sample)
        problem.penalty = self.penalty and take(self.penalty, sample)
        problem.batch, problem.draws, problem.steps = len(sample), draws, steps
        return problem

    def tiled(self, copies: int) -> Self:
        """The problem of every sample ``copies`` times, (copies * B) rows, copy by copy."""
        sample = torch.arange(self.batch, device=self.like.device).repeat(copies)
        return self.rows(sample, Noise(self.draws.seed, self.draws.restart.repeat(copies)), self.steps)

    def random_start(self) -> Tensor:
        """Random points of the feasible set (B, *shape), projected."""
        like = self.like.new_empty(self.batch, *self.shape)
        return self.feasible.project(self.feasible.sample(like, self.draws))

    def loss(self, output: Tensor, x: Tensor) -> Tensor:
        """The objective (B,) of the output at ``x`` (B, *shape), the penalty included; differentiable.

        Raises:
            InputError: it is not one number a sample.
        """
        if isinstance(output, Tensor) and output.shape[:1] != (len(x),):
            raise InputError("network", f"one output a sample, shape ({len(x)}, ...)", f"shape {tuple(output.shape)}")
        loss = _each("objective", self.objective(output), len(x))
        return loss if self.penalty is None else loss + _each("penalty", self.penalty(x), len(x))

    def residual(self, output: Tensor, x: Tensor) -> Tensor:
        """What `loss` is the sum of squares of (B, m), a penalty's after the objective's; differentiable.

        Raises:
            InputError: the objective or the penalty is no sum of squares: it has no method ``residual``.
        """
        residual = _squares("objective", self.objective, output)
        if self.penalty is None:
            return residual
        return torch.cat([residual, _squares("penalty", self.penalty, x)], 1)

    @torch.no_grad()
    def require_independent(self, x: Tensor, output: Tensor | None = None) -> None:
        """Look whether each function treats the samples independently, or follows them by ``take(rows)``.

        Args:
            x: (B, *shape).
            output: the network's at ``x``; None: it is computed. Where it is given, the network itself is evaluated
                only if it holds something of B rows.

        Raises:
            InputError: a function does not.
        """
        apart = self.feasible.project(spread(x))  # the samples may all start alike
        if output is None or holds(self.network, len(x)):
            require_independent("network", self.network, apart)
        output = self.network(x) if output is None else output
        various = spread(output / 2 if output.is_floating_point() else output)  # at a solution all values are rounding
        require_independent("objective", self.objective, various)
        if self.penalty is not None:
            require_independent("penalty", self.penalty, apart)
        if self.success is not None:
            value = spread(self.loss(output, x))
            for scale in SCALES:
                scaled = scale * various if output.is_floating_point() else output
                require_independent("success", self.success, scale * value, scaled)

    @torch.no_grad()
    def evaluate(self, x: Tensor) -> Evaluation:
        """One forward: the objective and the output at ``x`` (B, *shape)."""
        output = self.network(x)
        return Evaluation(self.loss(output, x), output)

    def gradient(self, x: Tensor) -> tuple[Evaluation, Tensor]:
        """One forward and one backward: the evaluation at ``x`` (B, *shape) and its gradient (B, *shape)."""
        return self.call(self, self.plain_gradient, x)

    def plain_gradient(self, x: Tensor) -> tuple[Evaluation, Tensor]:
        """`gradient`, never compiled."""
        return self._gradient(self.network, x)

    def _gradient(self, network: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Evaluation, Tensor]:
        """`gradient` with another backward pass through the network."""
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            output = network(x)
            value = self.loss(output, x)
            (grad,) = gradients(value, [x])
        return Evaluation(value.detach(), output.detach()), grad

    def soft_gradient(self, x: Tensor, tau: float, layers: Sequence[int] | None = None) -> tuple[Evaluation, Tensor]:
        """`gradient`, the backward pass through soft gates (`latentopt.gates.soft_backward`) of the network alone.

        Objective and penalty are differentiated as they are, also where they clamp or take absolute values.
        """

        def soft(x: Tensor, tau: Tensor) -> tuple[Evaluation, Tensor]:
            def network(x: Tensor) -> Tensor:
                with soft_backward(tau, len(x), layers) as mode:
                    output = self.network(x)
                require_gates(mode)
                return output

            return self._gradient(network, x)

        return self.call(soft_backward, soft, x, x.new_tensor(tau))

    def answering(self, at: Tensor, found: tuple[Evaluation, Tensor]) -> Self:
        """The problem as a method is to see it that asks for one gradient, ``at`` a point: ``found`` is the answer."""

        def gradient(x: Tensor) -> tuple[Evaluation, Tensor]:
            return found if x is at else (evaluate(x), x)

        def evaluate(x: Tensor) -> Evaluation:
            raise InputError("descent", "one that asks for one gradient a step, at its iterate", "another question")

        problem = copy.copy(self)
        problem.gradient, problem.evaluate = gradient, evaluate
        return problem

    def call(self, owner: object, function: Callable[..., T], *args: Tensor | tuple[Tensor, ...]) -> T:
        """``function(*args)`` in compiled form where the problem is; see `latentopt.compile.Compiled`."""
        return self.compiled(owner, function, *args) if self.compiled else function(*args)


def _squares(name: str, function: Objective, argument: Tensor) -> Tensor:
    """The residuals (B, m) of a function that is a sum of squares."""
    residual = getattr(function, "residual", None)
    if residual is None:
        came = getattr(function, "__name__", type(function).__name__)
        raise InputError(name, "a sum of squares, such as MSE", came)
    values = residual(argument)
    if values.ndim != 2 or len(values) != len(argument):
        raise InputError(name, f"residuals of shape ({len(argument)}, m)", f"shape {tuple(values.shape)}")
    return values


def _each(name: str, values: object, count: int) -> Tensor:
    """The values, if they are one a sample."""
    if not isinstance(values, Tensor) or values.shape != (count,):
        came = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
        raise InputError(name, f"one value a sample, shape ({count},)", came)
    return values
