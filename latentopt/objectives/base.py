"""What is minimised on a network's output, for each sample of a batch."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from latentopt.batch_math import take
from latentopt.errors import InputError

Objective = Callable[[Tensor], Tensor]
"""Maps the output (B, ...) to (B,), to be minimised. One that holds a tensor for each sample (a target) also has
``take(rows)``, which returns the objective of the samples ``rows`` (long)."""


class Loss(ABC):
    """A distance between what is predicted and what was measured, per sample: (B, ...), (B, ...) to (B,).

    One that holds something for each sample (weights, references) has ``take(rows)``, as an objective has.
    """

    @abstractmethod
    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class Fit:
    """``loss(operator(output), measurement)`` of each sample; ``measurement`` (B, ...).

    A loss or an operator that holds something for each sample has ``take(rows)``.
    """

    loss: Callable[[Tensor, Tensor], Tensor]
    operator: Callable[[Tensor], Tensor]
    measurement: Tensor

    def __call__(self, output: Tensor) -> Tensor:
        return self.loss(self.operator(output), self.measurement)

    def residual(self, output: Tensor) -> Tensor:
        """What the loss is the sum of squares of (B, m).

        Raises:
            InputError: it is none.
        """
        residual = getattr(self.loss, "residual", None)
        if residual is None:
            raise InputError("objective", "a sum of squares, such as MSE", type(self.loss).__name__)
        return residual(self.operator(output), self.measurement)

    def take(self, rows: Tensor) -> "Fit":
        return Fit(take(self.loss, rows), take(self.operator, rows), self.measurement[rows])


@dataclass(frozen=True)
class Unit:
    """Minus the output unit ``index``: minimising it maximises the unit. Output (B, ...), flattened."""

    index: int = 0

    def __call__(self, output: Tensor) -> Tensor:
        return -output.flatten(1)[:, self.index]
