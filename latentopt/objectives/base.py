"""Objectives, losses, and objectives made of losses."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from latentopt.arguments import checked
from latentopt.batch_math import take
from latentopt.errors import InputError

Objective = Callable[[Tensor], Tensor]
"""Maps the output (B, ...) to (B,), to be minimised. An objective with a tensor for each sample (a target) also has
``take(rows)``, which returns the objective of the samples ``rows`` (long)."""


class Loss(ABC):
    """A distance between predictions and targets, (B, ...) each, to (B,).

    A loss with a tensor for each sample (weights, references) has ``take(rows)``, as an `Objective`.
    """

    @abstractmethod
    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class Fit:
    """The objective ``loss(operator(output), measurement)``.

    Args:
        loss: (B, ...), (B, ...) to (B,), such as a `Loss`.
        operator: maps outputs to measurements. Loss and operator have ``take(rows)`` if they differ between samples.
        measurement: (B, ...).
    """

    loss: Callable[[Tensor, Tensor], Tensor]
    operator: Callable[[Tensor], Tensor]
    measurement: Tensor

    def __call__(self, output: Tensor) -> Tensor:
        return self.loss(self._predict(output), self.measurement)

    def residual(self, output: Tensor) -> Tensor:
        """Compute residuals (B, m) of which the objective is the sum of squares.

        Of a `latentopt.objectives.NoiseModel` the sum of squares has the objective's gradient alone, and the Fisher
        information as its Gauss-Newton curvature.

        Raises:
            InputError: the loss is neither a sum of squares nor a noise model.
        """
        residual = getattr(self.loss, "residual", None)
        if residual is None:
            raise InputError("objective", "a sum of squares, such as MSE, or a noise model", type(self.loss).__name__)
        return residual(self._predict(output), self.measurement)

    def _predict(self, output: Tensor) -> Tensor:
        predict = getattr(self.loss, "predict", None)
        return self.operator(output) if predict is None else predict(self.operator, output, self.measurement)

    def take(self, rows: Tensor) -> "Fit":
        return Fit(take(self.loss, rows), take(self.operator, rows), self.measurement[rows])


@checked
@dataclass(frozen=True)
class Unit:
    """Minus one unit of the output; minimising it maximises the unit.

    Args:
        index: of the unit in the flattened output of a sample.
    """

    index: int = 0

    def __call__(self, output: Tensor) -> Tensor:
        units = output.flatten(1)
        if not -units.shape[1] <= self.index < units.shape[1]:
            raise InputError("Unit.index", f"one of the {units.shape[1]} output units, from 0", self.index)
        return -units[:, self.index]
