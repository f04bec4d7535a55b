"""`Problem`: what a user states. `Batch`: the rows of it that a method works on."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, Self, TypeVar

import torch
from torch import Tensor

from latentopt._deprecated import old_attribute
from latentopt.arguments import checked
from latentopt.autodiff import gradients, require_gradient
from latentopt.compile import Compiled
from latentopt.errors import InputError, as_shape, positive
from latentopt.gates import require_gates, soft_backward
from latentopt.independence import holds, require_independent, spread
from latentopt.networks.checks import empty_like_parameters
from latentopt.networks.outputs import Pick, adapt, argument_of, check_pick
from latentopt.noise import Noise
from latentopt.objectives import Objective, take
from latentopt.sets import FeasibleSet, Free

T = TypeVar("T")
Success = Callable[[Tensor, Tensor], Tensor]
SCALES = (2.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-6, 0.0)
"""Factors of the start's values at which the success test is checked, as it mostly holds for no sample there."""


class Evaluation(NamedTuple):
    """Objective and output at some inputs."""

    value: Tensor  # (B,) objective, detached
    output: Tensor  # (B, *out), detached


class Problem:
    """A network, an objective and a feasible set for a batch of samples.

    Args:
        network: maps inputs (B, *shape) to outputs (B, *out), each sample by itself; or to several outputs of which one
            counts. Never changed. A network that differs by sample has ``take(rows)``, as an objective that holds
            targets has, and accepts any number of copies of its batch, copy by copy.
        objective: maps outputs to (B,), to be minimised (`latentopt.objectives`); with ``take(rows)`` if it holds
            something for each sample, as the penalty and the success test. One with an attribute ``takes_input``, True,
            gets the inputs too, as its second argument, which has a default.
        shape: shape of one input, 8 for (8,).
        batch: number of samples B, >= 1. Equal samples start and end alike, unless `solve` is told otherwise.
        feasible: the set that inputs are kept in, from which random starts are drawn. Its tensors are broadcast to the
            batch. None: all inputs (`latentopt.sets.Free`).
        success: maps objective values (B,) and outputs to a mask (B,) of the samples that are solved; with
            ``take(rows)`` if it holds something for each sample. None: no sample ever is.
        like: tensor with the dtype and device of the inputs. None: those of the network's weights; without any, torch's
            defaults.
        penalty: maps inputs (B, *shape) to (B,), added to the objective. None: no penalty.
        warn_if_random: whether `solve` warns if the network gives another output for the same input.
        pick: choice among several outputs: an index, a name, or a function of all that the network returns. None: the
            first tensor.

    Raises:
        InputError: `batch` is no number of samples, or the bounds or centres of the set fit neither one input nor the
            batch.
    """

    @checked
    def __init__(
        self,
        network: Callable[[Tensor], Any],
        objective: Objective,
        shape: int | Sequence[int],
        batch: int,
        feasible: FeasibleSet | None = None,
        success: Success | None = None,
        like: Tensor | None = None,
        penalty: Objective | None = None,
        warn_if_random: bool = True,
        pick: Pick | None = None,
    ) -> None:
        positive("batch", batch, integer=True)
        self.network, self.objective, self.batch = network, objective, batch
        self.shape, self.pick = as_shape("shape", shape), check_pick(pick)
        self.success, self.penalty, self.warn_if_random = success, penalty, warn_if_random
        self.like = empty_like_parameters(network) if like is None else like.new_empty(0)
        self.feasible = feasible or Free()

    @property
    def feasible(self) -> FeasibleSet:
        """Feasible set, broadcast to the batch."""
        return self._feasible

    @feasible.setter
    def feasible(self, feasible: FeasibleSet) -> None:
        self._feasible = feasible.broadcast_to((self.batch, *self.shape), self.like)

    def take(self, rows: Tensor) -> Self:
        """Return the problem of the samples ``rows`` (long), each as often as it is named."""
        problem = copy.copy(self)
        problem.batch = len(rows)
        for name, part in _parts(self, rows).items():
            setattr(problem, name, part)
        return problem

    def rows(self, sample: Tensor, noise: Noise, steps: int = 1, compile: bool = False) -> Batch:  # noqa: A002
        """Return the batch of the samples ``sample`` (rows,) long, each as often as it is named.

        Args:
            sample: (rows,) long, the sample of each row.
            noise: random numbers of these rows.
            steps: planned number of steps, at which schedules end.
            compile: whether passes through the network are compiled.
        """
        compiled = Compiled() if compile else None
        parts = _parts(self, sample)
        parts["network"] = adapt(parts["network"], pick=self.pick)
        return Batch(**parts, shape=self.shape, like=self.like, noise=noise, steps=steps, compiled=compiled)

    def whole(self, noise: Noise | None = None, steps: int = 1) -> Batch:
        """Return the batch of every sample once.

        Args:
            noise: random numbers of the B samples. None: those of seed 0 and restart 0.
            steps: planned number of steps, at which schedules end.
        """
        sample = torch.arange(self.batch, device=self.like.device)
        return self.rows(sample, noise or Noise(0, torch.zeros_like(sample)), steps)

    def evaluate(self, x: Tensor) -> Evaluation:
        """Return objective (B,) and output (B, *out) at ``x`` (B, *shape), one of each sample: one forward."""
        return self.whole().evaluate(x)


@dataclass(frozen=True, eq=False, kw_only=True)
class Batch:
    """The rows of a problem that a method works on; a row is one restart of one sample.

    Args:
        network: as of `Problem`, of these rows, like the objective, the success test and the penalty.
        objective: maps outputs (B, *out) to (B,).
        feasible: feasible set, broadcast to the rows.
        shape: shape of one input.
        like: empty tensor with the dtype and device of the inputs.
        noise: the only source of randomness.
        steps: planned number of steps, at which schedules end.
        success: maps values (B,) and outputs to a mask (B,), or None.
        penalty: maps inputs to (B,), or None.
        compiled: runs passes through the network in compiled form. None: as they are.
        record: whether steps report `Step.info`.
    """

    network: Callable[[Tensor], Tensor]
    objective: Objective
    feasible: FeasibleSet
    shape: tuple[int, ...]
    like: Tensor
    noise: Noise
    steps: int
    success: Success | None = None
    penalty: Objective | None = None
    compiled: Compiled | None = None
    record: bool = True

    draws = old_attribute("Batch", "draws", "noise")

    def __len__(self) -> int:
        """Return the number of rows B."""
        return len(self.noise.restart)

    def take(self, rows: Tensor) -> Self:
        """Return the batch of the rows ``rows`` (long), each as often as it is named; it is not compiled."""
        return replace(self, **_parts(self, rows), noise=self.noise.take(rows), compiled=None)

    def tiled(self, copies: int) -> Self:
        """Return the batch of every row ``copies`` times: (copies * B) rows, copy by copy."""
        return self.take(torch.arange(len(self), device=self.like.device).repeat(copies))

    def with_steps(self, steps: int) -> Self:
        """Return the batch with another planned number of steps."""
        return replace(self, steps=steps)

    def with_gradient(self, x: Tensor, evaluation: Evaluation, grad: Tensor) -> Batch:
        """Return the batch for a method that may ask for one gradient only, that at ``x``, which is given here.

        Args:
            x: (B, *shape), the only tensor to be asked for.
            evaluation: objective and output at ``x``.
            grad: (B, *shape), taken for the gradient there.
        """
        shared = {field.name: getattr(self, field.name) for field in fields(Batch)}
        return _GivenGradient(**shared, x=x, answer=(evaluation, grad))

    def random_start(self) -> Tensor:
        """Return random points of the feasible set (B, *shape), projected."""
        like = self.like.new_empty(len(self), *self.shape)
        return self.feasible.project(self.feasible.sample(like, self.noise))

    def loss(self, output: Tensor, x: Tensor) -> Tensor:
        """Return the objective (B,) of the output at ``x`` (B, *shape), the penalty included; differentiable.

        Raises:
            InputError: it is not one number a sample.
        """
        loss = _require_values("objective", self.objective(output, *self._inputs(x)), len(x))
        loss = loss if self.penalty is None else loss + _require_values("penalty", self.penalty(x), len(x))
        return loss if loss.is_floating_point() else loss.to(x.dtype)

    def residual(self, output: Tensor, x: Tensor) -> Tensor:
        """Return the residuals (B, m) whose sum of squares is `loss`, those of the penalty last; differentiable.

        Raises:
            InputError: the objective or the penalty is no sum of squares: it has no method ``residual``.
        """
        residual = _residual("objective", self.objective, output, *self._inputs(x))
        if self.penalty is None:
            return residual
        return torch.cat([residual, _residual("penalty", self.penalty, x)], 1)

    def _inputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the inputs (B, *shape) for an objective that takes them beside the outputs."""
        return (x,) if getattr(self.objective, "takes_input", False) else ()

    @torch.no_grad()
    def require_independent(self, x: Tensor, output: Tensor | None = None) -> None:
        """Check that each function treats the samples independently, or follows them by ``take(rows)``.

        Args:
            x: (B, *shape).
            output: the network's at ``x``; None: it is computed. Where it is given, the network itself is evaluated
                only if it holds something of B rows.

        Raises:
            InputError: a function does not.
        """
        distinct_x = self.feasible.project(spread(x))  # the samples may all start alike
        if output is None or holds(self.network, len(x)):
            require_independent("network", self.network, distinct_x)
        output = self.network(x) if output is None else output
        distinct = spread(output / 2 if output.is_floating_point() else output)  # at a solution all values are rounding
        require_independent("objective", self.objective, distinct, *self._inputs(distinct_x))
        if self.penalty is not None:
            require_independent("penalty", self.penalty, distinct_x)
        if self.success is not None:
            value = spread(self.loss(output, x))
            for scale in SCALES:
                scaled = scale * distinct if output.is_floating_point() else output
                require_independent("success", self.success, scale * value, scaled)

    @torch.no_grad()
    def evaluate(self, x: Tensor) -> Evaluation:
        """Return objective and output at ``x`` (B, *shape): one forward."""
        if chunks := self._chunks(x):
            return Evaluation(*map(torch.cat, zip(*(part.evaluate(rows) for part, rows in chunks), strict=True)))
        output = self.network(x)
        return Evaluation(self.loss(output, x), output)

    def _chunks(self, x: Tensor) -> list[tuple[Batch, Tensor]]:
        """Return parts of the batch and of ``x`` whose gradients fit into memory; empty: the whole does."""
        count = getattr(self.network, "rows_at_once", None)
        if count is None or len(x) <= count:
            return []
        rows = torch.arange(len(x), device=x.device).split(count)
        return [(self.take(part), x[part]) for part in rows]

    def gradient(self, x: Tensor) -> tuple[Evaluation, Tensor]:
        """Return the evaluation at ``x`` (B, *shape) and the gradient (B, *shape): one forward and one backward."""
        if chunks := self._chunks(x):
            return _joined([part.gradient(rows) for part, rows in chunks])
        return self.call(Batch.gradient, lambda x: self._gradient(self.network, x), x)

    def soft_gradient(self, x: Tensor, tau: float, layers: Sequence[int] | None = None) -> tuple[Evaluation, Tensor]:
        """Return what `gradient` does, the backward pass through soft gates (`latentopt.gates.soft_backward`).

        Only the network's gates are soft: objective and penalty are differentiated as they are, also where they clamp
        or take absolute values.
        """

        if chunks := self._chunks(x):
            return _joined([part.soft_gradient(rows, tau, layers) for part, rows in chunks])

        def soft(x: Tensor, tau: Tensor) -> tuple[Evaluation, Tensor]:
            def network(x: Tensor) -> Tensor:
                with soft_backward(tau, len(x), layers) as mode:
                    output = self.network(x)
                require_gates(mode, self.network)
                return output

            return self._gradient(network, x)

        return self.call(soft_backward, soft, x, x.new_tensor(tau))

    def _gradient(self, network: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Evaluation, Tensor]:
        """Return `gradient` by another pass through the network."""
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            output = network(x)
            value = self.loss(output, x)
            require_gradient(output, argument_of(self.network))
            require_gradient(value, "objective")
            (grad,) = gradients(value, [x], argument=argument_of(self.network))
        return Evaluation(value.detach(), output.detach()), grad

    def call(self, key: object, function: Callable[..., T], *args: Tensor | tuple[Tensor, ...]) -> T:
        """Return ``function(*args)``, in compiled form where the batch is; see `latentopt.compile.Compiled`."""
        return self.compiled(key, function, *args) if self.compiled else function(*args)


@dataclass(frozen=True, eq=False, kw_only=True)
class _GivenGradient(Batch):
    x: Tensor
    answer: tuple[Evaluation, Tensor]

    def gradient(self, x: Tensor) -> tuple[Evaluation, Tensor]:
        return self.answer if x is self.x else (self.evaluate(x), x)

    def evaluate(self, x: Tensor) -> Evaluation:
        raise InputError("descent", "one that asks for one gradient a step, at its iterate", "another question")


def _joined(parts: Sequence[tuple[Evaluation, Tensor]]) -> tuple[Evaluation, Tensor]:
    """Return the evaluations and gradients of the parts of a batch, joined."""
    evaluations, gradients = zip(*parts, strict=True)
    return Evaluation(*map(torch.cat, zip(*evaluations, strict=True))), torch.cat(gradients)


def _parts(whole: Problem | Batch, rows: Tensor) -> dict[str, Any]:
    """Return the network, objective, feasible set, success test and penalty of some rows (long), by name."""
    return {
        "network": take(whole.network, rows),
        "objective": take(whole.objective, rows),
        "feasible": whole.feasible.take(rows),
        "success": whole.success and take(whole.success, rows),
        "penalty": whole.penalty and take(whole.penalty, rows),
    }


def _residual(name: str, function: Objective, *arguments: Tensor) -> Tensor:
    """Return the residuals (B, m) of a function that is a sum of squares."""
    residual = getattr(function, "residual", None)
    if residual is None:
        got = getattr(function, "__name__", type(function).__name__)
        raise InputError(name, "a sum of squares, such as MSE", got)
    values, count = residual(*arguments), len(arguments[0])
    if values.ndim != 2 or len(values) != count:
        raise InputError(name, f"residuals of shape ({count}, m)", f"shape {tuple(values.shape)}")
    return values


def _require_values(name: str, values: object, count: int) -> Tensor:
    """Return the values after checking that they are one a sample."""
    if not isinstance(values, Tensor) or values.shape != (count,):
        got = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
        raise InputError(name, f"one value a sample, shape ({count},)", got)
    return values
