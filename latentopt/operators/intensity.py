"""Non-linear operators on single values, of images, signals and volumes: clipping, quantisation, gamma, exposure."""

import math
from dataclasses import dataclass

from torch import Tensor

from latentopt.arguments import checked
from latentopt.errors import InputError, positive
from latentopt.operators.base import Operator

TOE = 1e-5
"""Values below it follow a straight line in `Gamma`, whose slope at 0 would be infinite for a gamma under 1."""


@dataclass(frozen=True)
class Clip(Operator):
    """Saturation: values below ``low`` become ``low``, values above ``high`` become ``high``.

    A saturated value has no gradient. Where the search saturates values that were not measured so, use the loss
    `latentopt.objectives.Consistent`.

    Args:
        low: smallest value.
        high: largest value, above ``low``.

    >>> import torch
    >>> Clip(high=0.5)(torch.tensor([[-1.0, 0.25, 0.75]])).tolist()
    [[0.0, 0.25, 0.5]]
    """

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf:
            raise InputError("Clip.low", "a finite number below Clip.high", f"{self.low}, {self.high}")

    def __call__(self, image: Tensor) -> Tensor:
        return image.clamp(self.low, self.high)

    def consistent(self, image: Tensor, measurement: Tensor) -> Tensor:
        """Return the image where it contradicts the measurement, and the measurement elsewhere.

        A value measured at ``high`` says that the image is at least as high, one at ``low`` that it is at most as low.

        Args:
            image: (B, ...), before the saturation.
            measurement: like the image.

        Returns:
            Values like the image.
        """
        high = measurement.where(measurement >= self.high, math.inf)
        low = measurement.where(measurement <= self.low, -math.inf)
        return image.minimum(high).maximum(low)


@dataclass(frozen=True)
class Quantize(Operator):
    """Rounding to the nearest of ``levels`` values, evenly spaced from 0 to 1.

    Values outside [0, 1] become 0 or 1. The gradient is that of the clamped image (straight-through), as that of the
    rounding is 0. For a loss whose gradient is exact, see `latentopt.objectives.Consistent`.

    Args:
        levels: a whole number >= 2; 2**b for b bits.

    >>> import torch
    >>> Quantize(3)(torch.tensor([[0.2, 0.3, 2.0]])).tolist()
    [[0.0, 0.5, 1.0]]
    """

    levels: int

    def __post_init__(self) -> None:
        positive("Quantize.levels", self.levels, integer=True)
        if self.levels < 2:
            raise InputError("Quantize.levels", "an integer >= 2", self.levels)

    def __call__(self, image: Tensor) -> Tensor:
        clamped, steps = image.clamp(0, 1), self.levels - 1
        return round_straight_through(clamped * steps) / steps

    def consistent(self, image: Tensor, measurement: Tensor) -> Tensor:
        """Return the measurement, moved by the distance of the image to the cell of values that round to it.

        The cells of 0 and 1 have no end below and above.

        Args:
            image: (B, ...), before the rounding.
            measurement: like the image.

        Returns:
            Values like the image, equal to the measurement where the image rounds to it.
        """
        half = 0.5 / (self.levels - 1)
        low = (measurement - half).where(measurement > 0, -math.inf)
        high = (measurement + half).where(measurement < 1, math.inf)
        return measurement + (image - image.clamp(low, high))


@checked
@dataclass(frozen=True)
class Gamma(Operator):
    """The power ``image ** gamma``; a negative value keeps its sign.

    Below 1e-5 it is a straight line through 0, so that the slope is finite for a gamma under 1 as well.

    Args:
        gamma: > 0; above 1 it darkens, below 1 it brightens.

    >>> import torch
    >>> Gamma(2)(torch.tensor([[0.5, -0.5]])).tolist()
    [[0.25, -0.25]]
    """

    gamma: float

    def __post_init__(self) -> None:
        positive("Gamma.gamma", self.gamma)

    def __call__(self, image: Tensor) -> Tensor:
        size = image.abs()
        power = image.sign() * size.clamp_min(TOE) ** self.gamma
        return power.where(size > TOE, image * TOE ** (self.gamma - 1))


@checked
@dataclass(frozen=True)
class Exposure(Operator):
    """The image times ``2 ** stops``. With `Clip` after it, it is an overexposed photograph.

    Args:
        stops: each doubles the light; negative ones halve it.

    >>> import torch
    >>> from latentopt.operators import Compose
    >>> Compose(Exposure(1), Clip())(torch.tensor([[0.25, 0.75]])).tolist()
    [[0.5, 1.0]]
    """

    stops: float
    is_linear = True

    def __post_init__(self) -> None:
        if not -1000 < self.stops < 1000:
            raise InputError("Exposure.stops", "a finite number, such as 1", self.stops)

    def __call__(self, image: Tensor) -> Tensor:
        return image * 2.0**self.stops


def round_straight_through(x: Tensor) -> Tensor:
    """Round half away from 0; the gradient is that of the identity."""
    fixed = x.detach()
    return (fixed.abs() + 0.5).floor() * fixed.sign() + (x - fixed)
