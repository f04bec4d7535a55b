"""Losses on pixels and windows of pixels, and sums of losses."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from latentopt import components, metrics
from latentopt.errors import InputError, nonnegative, positive
from latentopt.objectives.base import Loss, take


@dataclass(frozen=True)
class MSE(Loss):
    """Mean squared error."""

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        return metrics.mse(prediction, target)

    def residual(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compute residuals (B, m) of which it is the sum of squares."""
        difference = (prediction - target).flatten(1)
        return difference / difference.shape[1] ** 0.5


@dataclass(frozen=True)
class L1(Loss):
    """Mean absolute error, robust to outliers."""

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).abs().flatten(1).mean(1)


@dataclass(frozen=True)
class Huber(Loss):
    """Mean of the Huber loss, quadratic for small errors and linear for large ones.

    Args:
        delta: error at which the loss becomes linear, > 0.
    """

    delta: float = 0.1

    def __post_init__(self) -> None:
        positive("Huber.delta", self.delta)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        return F.huber_loss(prediction, target, reduction="none", delta=self.delta).flatten(1).mean(1)


@dataclass(frozen=True)
class SSIM(Loss):
    """One minus the structural similarity (`latentopt.metrics.ssim`), in [0, 2], 0 for equal images.

    Images are (B, C, H, W) in [0, 1], of at least 11 x 11 pixels, SSIM's window.
    """

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        if prediction.ndim != 4 or min(prediction.shape[-2:]) < 11:
            raise InputError("image", "(B, C, H, W) of at least 11 x 11 pixels, SSIM's window", tuple(prediction.shape))
        return 1 - metrics.ssim(prediction, target)


@dataclass(frozen=True)
class WeightedSum(Loss):
    """A weighted sum of losses.

    Args:
        losses: at least one, or their names.
        weights: one for each loss, finite and >= 0.

    >>> import torch
    >>> WeightedSum([MSE(), L1()], [1.0, 0.5])(torch.zeros(1, 4), torch.full((1, 4), 2.0)).tolist()
    [5.0]
    """

    losses: Sequence[Loss]
    weights: Sequence[float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "losses", components.build_each("WeightedSum.losses", "loss", self.losses))
        if not isinstance(self.weights, Sequence):
            raise InputError("WeightedSum.weights", "one for each loss", repr(self.weights))
        object.__setattr__(self, "weights", tuple(self.weights))  # hashable
        if not self.losses or len(self.weights) != len(self.losses):
            lengths = f"{len(self.losses)} losses and {len(self.weights)} weights"
            raise InputError("WeightedSum.weights", "one for each loss, and a loss", lengths)
        for weight in self.weights:
            nonnegative("WeightedSum.weights", weight)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        first, *rest = (w * loss(prediction, target) for w, loss in zip(self.weights, self.losses, strict=True))
        return sum(rest, first)

    def take(self, rows: Tensor) -> "WeightedSum":
        return WeightedSum([take(loss, rows) for loss in self.losses], self.weights)
