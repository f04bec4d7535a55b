"""The best action near an actor's as a batch: in general, and in closed form where the critic is a ReLU chain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentopt.noise import Noise
from latentopt.problem import Batch, Evaluation
from latentopt.rl.closed_form import ClosedForm, Seen
from latentopt.rl.critics import Reduce, Values, reduced
from latentopt.rl.single import Single
from latentopt.sets import Box


class ActionValues:
    """Scaled actions (copies * B, A), copy by copy, to what the n critics say of them (rows, n)."""

    def __init__(self, values: Values, observations: Tensor, middle: Tensor, half: Tensor) -> None:
        self.values, self.observations, self.middle, self.half = values, observations, middle, half

    def __call__(self, u: Tensor) -> Tensor:
        copies = len(u) // len(self.observations)
        observations = self.observations.repeat(copies, *[1] * (self.observations.ndim - 1))
        return self.values(observations, self.middle + self.half * u).T

    def take(self, rows: Tensor) -> ActionValues:
        return ActionValues(self.values, self.observations[rows], self.middle, self.half)


@dataclass(frozen=True)
class Worst:
    """Minus the value that counts, of what the critics say (rows, n)."""

    critic: Reduce

    def __call__(self, values: Tensor) -> Tensor:
        return -reduced(values.T, self.critic)


class Around(Box):
    """A box with bounds (B, A), low <= high, for tensors and for NumPy's arrays."""

    bounds: tuple[NDArray[Any], NDArray[Any]]

    def __init__(self, low: NDArray[Any], high: NDArray[Any]) -> None:
        for name, value in (("low", torch.from_numpy(low)), ("high", torch.from_numpy(high)), ("bounds", (low, high))):
            object.__setattr__(self, name, value)

    def project(self, x: Any) -> Any:
        if isinstance(x, Tensor):
            return torch.clamp(x, self.low, self.high)  # pyright: ignore[reportArgumentType, reportCallIssue]
        return np.minimum(np.maximum(x, self.bounds[0]), self.bounds[1])

    def take(self, rows: Tensor) -> Around:
        return Around(*(bound[rows.numpy()] for bound in self.bounds))


@dataclass(frozen=True, eq=False, kw_only=True)
class ActionBatch(Batch):
    """As `latentopt.Batch`, its values and gradients in closed form; methods that drive gates freely use autograd.

    It answers in NumPy's arrays where it is asked in them, which takes a third of the time of torch's small tensors.

    Args:
        form: the critics, at the observations.
        single: the same for a single observation, once it is folded.
        folded: the same without what is linear in the box, once it is folded.
        last: the actions (B, A) of the last gradient and what was seen there; at most one such pair.
    """

    form: ClosedForm
    single: Single | None = None
    folded: Single | None = None
    last: list[tuple[NDArray[Any], Seen]] = field(default_factory=list)

    def fold(self) -> Self:
        """Return the batch of a single observation without what is linear in the box; soft gates keep all units."""
        assert isinstance(self.feasible, Around)
        single = Single.of(self.form)
        folded = single.folded(self.feasible.bounds[0][0], self.feasible.bounds[1][0])
        return replace(self, single=single, folded=folded)

    def take(self, rows: Tensor) -> Self:
        return replace(super().take(rows), form=self.form.take(rows.numpy()), single=None, folded=None, last=[])

    def evaluate(self, x: Tensor) -> Evaluation:
        seen = (self.folded or self.form).see(_array(x))
        return _as(x, Evaluation(-seen.value, seen.values.T))  # pyright: ignore[reportArgumentType]

    def gradient(self, x: Tensor) -> tuple[Evaluation, Tensor]:
        u = _array(x)
        return _both(x, self.folded.see(u, True) if self.folded else self._see_again(u))

    def soft_gradient(self, x: Tensor, tau: float, layers: Sequence[int] | None = None) -> tuple[Evaluation, Tensor]:
        if layers is not None:
            return super().soft_gradient(torch.as_tensor(x), tau, layers)
        return _both(x, (self.single or self.form).see(_array(x), True, tau))

    def _see_again(self, u: NDArray[Any]) -> Seen:
        """The gradient; rows whose action is that of the last look are not looked at again.

        An ascent that has reached a corner of its box often stays there.
        """
        seen = None
        for last_u, last_seen in self.last:
            rows = (u != last_u).any(1).nonzero()[0]
            if 4 * len(rows) < 3 * len(u):
                seen = self._renewed(last_seen, u, rows)
        seen = seen or self.form.see(u, gradient=True)
        self.last[:] = [(u, seen)]
        return seen

    def _renewed(self, seen: Seen, u: NDArray[Any], rows: NDArray[Any]) -> Seen:
        if not len(rows):
            return seen
        assert seen.grad is not None
        value, values, grad = seen.value.copy(), seen.values.copy(), seen.grad.copy()
        part = self.form.take(rows).see(u[rows], gradient=True)
        value[rows], values[:, rows], grad[rows] = part.value, part.values, part.grad
        return Seen(value, values, grad)


def action_batch(
    form: ClosedForm, network: ActionValues, feasible: Box, like: Tensor, seed: int = 0, steps: int = 1
) -> ActionBatch:
    """Return the batch of restart 0 that finds the best actions.

    Args:
        form: the critics, at the observations.
        network: the same as a network, for autograd.
        feasible: where the actions may be.
        like: actions (B, A).
        seed: of the random numbers.
        steps: planned number of steps.
    """
    return ActionBatch(
        network=network,
        objective=Worst(form.critic),
        feasible=feasible,
        shape=tuple(like.shape[1:]),
        like=like,
        noise=Noise(seed, torch.zeros(len(like), dtype=torch.long)),
        steps=steps,
        record=False,
        form=form,
    )


def _array(x: Any) -> NDArray[Any]:
    return x.numpy() if isinstance(x, Tensor) else x


def _as(x: Any, arrays: Evaluation) -> Evaluation:
    """The arrays as tensors, where ``x`` is one."""
    return Evaluation(*map(torch.from_numpy, arrays)) if isinstance(x, Tensor) else arrays  # pyright: ignore[reportArgumentType]


def _both(x: Any, seen: Seen) -> tuple[Evaluation, Any]:
    assert seen.grad is not None
    here = _as(x, Evaluation(-seen.value, seen.values.T))  # pyright: ignore[reportArgumentType]
    return here, torch.from_numpy(-seen.grad) if isinstance(x, Tensor) else -seen.grad
