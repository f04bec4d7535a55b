"""What is minimised on a network's output, for each sample of a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor
from torch.nn import functional as F

from latentopt import metrics
from latentopt.errors import positive

T = TypeVar("T")
Objective = Callable[[Tensor], Tensor]
"""Maps the output (B, ...) to (B,), to be minimised. One that holds a tensor for each sample (a target) also has
``take(rows)``, which returns the objective of the samples ``rows`` (long)."""


def take(function: T, rows: Tensor) -> T:
    """The objective, network or success test of the samples ``rows``; itself where it is the same for every sample."""
    chosen = getattr(function, "take", None)
    return chosen(rows) if chosen else function


class Loss(ABC):
    """A distance between what is predicted and what was measured, per sample: (B, ...), (B, ...) to (B,)."""

    @abstractmethod
    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class MSE(Loss):
    """Mean squared error."""

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        return metrics.mse(prediction, target)


@dataclass(frozen=True)
class L1(Loss):
    """Mean absolute error, which forgives outliers."""

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).abs().flatten(1).mean(1)


@dataclass(frozen=True)
class Huber(Loss):
    """Mean of the Huber loss: quadratic up to an error of ``delta``, linear beyond."""

    delta: float = 0.1

    def __post_init__(self) -> None:
        positive("Huber.delta", self.delta)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        return F.huber_loss(prediction, target, reduction="none", delta=self.delta).flatten(1).mean(1)


@dataclass(frozen=True, eq=False)
class Fit:
    """``loss(operator(output), measurement)`` of each sample; ``measurement`` (B, ...)."""

    loss: Callable[[Tensor, Tensor], Tensor]
    operator: Callable[[Tensor], Tensor]
    measurement: Tensor

    def __call__(self, output: Tensor) -> Tensor:
        return self.loss(self.operator(output), self.measurement)

    def take(self, rows: Tensor) -> Fit:
        return Fit(self.loss, self.operator, self.measurement[rows])


@dataclass(frozen=True)
class Unit:
    """Minus the output unit ``index``: minimising it maximises the unit. Output (B, ...), flattened."""

    index: int = 0

    def __call__(self, output: Tensor) -> Tensor:
        return -output.flatten(1)[:, self.index]
