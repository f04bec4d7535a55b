"""The best action near an actor's, in closed form: on NumPy arrays, and as a batch for methods on tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from numpy.typing import NDArray
from torch import Tensor

from latentopt.problem import Batch, Evaluation
from latentopt.rl.fast.closed_form import ClosedForm, CriticValues
from latentopt.rl.fast.stacked import StackedForm

Array = NDArray[Any]


class ClosedFormCritics:
    """Values and gradients of scaled actions u (rows, A).

    Args:
        form: the critics at the observations.
        box: of a single observation: bounds (A,) within which all actions will lie. Units that are linear there are
            dropped; soft gates go on with all units.
    """

    def __init__(self, form: ClosedForm, box: tuple[Array, Array] | None = None) -> None:
        self.form = self.hard = self.soft = form
        if box is not None:
            self.soft = StackedForm.from_closed_form(form)
            self.hard = self.soft.fold(*box)
        self.last: tuple[Array, CriticValues] | None = None

    def take(self, rows: Array) -> ClosedFormCritics:
        """Return the critics at some of the observations."""
        return ClosedFormCritics(self.form.take(rows))

    def values(self, u: Array) -> CriticValues:
        """Return the values at ``u``."""
        return self.hard.values(u)

    def gradient(self, u: Array) -> CriticValues:
        """Return values and gradient; rows whose action is that of the last call are not computed again.

        An ascent that has reached a corner of its box often stays there.
        """
        if self.hard is not self.form:
            return self.hard.values(u, True)
        values = None
        if self.last is not None:
            rows = (u != self.last[0]).any(1).nonzero()[0]
            if 4 * len(rows) < 3 * len(u):
                values = self._renew(self.last[1], u, rows)
        values = values or self.form.values(u, True)
        self.last = u, values
        return values

    def soft_gradient(self, u: Array, tau: float) -> CriticValues:
        """Return values, and the gradient through soft gates."""
        return self.soft.values(u, True, tau)

    def _renew(self, old: CriticValues, u: Array, rows: Array) -> CriticValues:
        if not len(rows):
            return old
        assert old.grad is not None
        value, values, grad = old.value.copy(), old.values.copy(), old.grad.copy()
        new = self.form.take(rows).values(u[rows], True)
        value[rows], values[:, rows], grad[rows] = new.value, new.values, new.grad
        return CriticValues(value, values, grad)


@dataclass(frozen=True, eq=False, kw_only=True)
class ClosedFormBatch(Batch):
    """A batch whose values and gradients are in closed form; methods that drive gates freely use its network."""

    critics: ClosedFormCritics

    def take(self, rows: Tensor) -> Self:
        return replace(super().take(rows), critics=self.critics.take(rows.numpy()))

    def evaluate(self, x: Tensor) -> Evaluation:
        return _evaluation(self.critics.values(x.numpy()))

    def gradient(self, x: Tensor) -> tuple[Evaluation, Tensor]:
        return _with_gradient(self.critics.gradient(x.numpy()))

    def soft_gradient(self, x: Tensor, tau: float, layers: Sequence[int] | None = None) -> tuple[Evaluation, Tensor]:
        if layers is not None:
            return super().soft_gradient(x, tau, layers)
        return _with_gradient(self.critics.soft_gradient(x.numpy(), tau))


def _evaluation(values: CriticValues) -> Evaluation:
    return Evaluation(torch.from_numpy(-values.value), torch.from_numpy(values.values.T))


def _with_gradient(values: CriticValues) -> tuple[Evaluation, Tensor]:
    assert values.grad is not None
    return _evaluation(values), torch.from_numpy(-values.grad)
