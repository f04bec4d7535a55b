"""Blurs that keep the size of images, signals and volumes; borders are mirrored, without repeating the outermost."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from latentopt.arguments import checked
from latentopt.errors import InputError, positive
from latentopt.operators.base import Operator, as_real_tensor, require_grid, require_images

CONVOLUTIONS = F.conv1d, F.conv2d, F.conv3d


@dataclass(frozen=True)
class Blur(Operator):
    """Convolution with a Gaussian of standard deviation ``sigma`` pixels, one axis after the other, borders mirrored.

    Args:
        sigma: in pixels, > 0.
        radius: the kernel has 2 radius + 1 pixels a side and sums to 1. It must be under the image's smallest side.
            None: ceil(3 sigma).
    """

    sigma: float
    radius: int | None = None
    is_linear = True

    def __post_init__(self) -> None:
        positive("Blur.sigma", self.sigma)
        if self.radius is not None:
            positive("Blur.radius", self.radius, integer=True)

    def kernel(self) -> Tensor:
        """Return the weights along one axis, (2 radius + 1,) float64."""
        offset = torch.arange(-self._radius(), self._radius() + 1, dtype=torch.float64, device="cpu")
        return (-((offset / self.sigma) ** 2) / 2).softmax(0)

    def _radius(self) -> int:
        return math.ceil(3 * self.sigma) if self.radius is None else self.radius

    def __call__(self, image: Tensor) -> Tensor:
        axes, blurred = require_grid(image), _mirrored(image, self._radius(), "Blur.radius")
        kernel = self.kernel().to(image)
        for axis in range(axes):
            shape = [1, 1, *(len(kernel) if axis == other else 1 for other in range(axes))]
            blurred = CONVOLUTIONS[axes - 1](blurred, kernel.reshape(shape))
        return blurred.reshape(image.shape)


@checked
@dataclass(frozen=True)
class MotionBlur(Operator):
    """The mean of the image along a line of ``length`` pixels through each pixel, borders mirrored.

    The line is of ``length`` points one pixel apart, centred; a point between pixels counts for its four neighbours by
    bilinear weights. So an odd length at 0 or 90 degrees is the plain mean of that many pixels.

    Args:
        length: in pixels, a whole number >= 1; 1 leaves the image as it is.
        angle: in degrees, counter-clockwise from horizontal.

    >>> MotionBlur(3).kernel()[1].tolist() == [1 / 3, 1 / 3, 1 / 3]
    True
    """

    length: int
    angle: float = 0.0
    is_linear = True

    def __post_init__(self) -> None:
        positive("MotionBlur.length", self.length, integer=True)
        if not math.isfinite(self.angle):
            raise InputError("MotionBlur.angle", "a finite number of degrees", self.angle)

    def kernel(self) -> Tensor:
        """Return the weights (2 radius + 1, 2 radius + 1), float64; radius is half of ``length``, rounded down."""
        radius = self.length // 2
        along = torch.arange(self.length, dtype=torch.float64, device="cpu") - (self.length - 1) / 2
        pixel = torch.arange(-radius, radius + 1, dtype=torch.float64, device="cpu")
        angle = math.radians(self.angle)
        row, column = (
            (1 - (pixel - along[:, None] * slope).abs()).clamp_min(0) for slope in (-math.sin(angle), math.cos(angle))
        )
        return row.T @ column / self.length

    def __call__(self, image: Tensor) -> Tensor:
        require_images(image)
        padded = _mirrored(image, self.length // 2, "MotionBlur.length")
        return F.conv2d(padded, self.kernel().to(image)[None, None]).reshape(image.shape)


@dataclass(frozen=True, eq=False)
class KernelBlur(Operator):
    """Convolution with a kernel of one's own, which is divided by its sum; borders mirrored.

    Args:
        kernel: (height, width) or (1, height, width), odd sides under twice the image's: a tensor or an array; or the
            path of a grey image or of an array file. (length,) is for signals, (depth, height, width) for volumes.
            Values are not negative, and not all 0.

    Raises:
        InputError: the kernel is not as described; at a call, it is too large for the image, or of other dimensions.

    >>> import torch
    >>> KernelBlur([[0, 0, 0], [0, 3, 1], [0, 0, 0]])(torch.eye(3)[None, None])[0, 0, 1].tolist()
    [0.25, 0.75, 0.25]
    """

    kernel: str | Path | Tensor | np.ndarray | list[list[float]]
    _values = torch.ones(1, 1)  # the kernel, divided by its sum (no annotation: no argument)
    is_linear = True

    def __post_init__(self) -> None:
        kernel = as_real_tensor("kernel", self.kernel).double()
        kernel = kernel[0] if kernel.ndim == 3 and len(kernel) == 1 else kernel
        if not 1 <= kernel.ndim <= 3 or any(side % 2 == 0 for side in kernel.shape):
            raise InputError("kernel", "shape (height, width) with odd sides", tuple(kernel.shape))
        if float(kernel.min()) < 0 or not float(kernel.sum()) > 0:
            raise InputError("kernel", "values >= 0, not all 0", f"{float(kernel.min()):g} to {float(kernel.max()):g}")
        object.__setattr__(self, "_values", kernel / kernel.sum())
        if not isinstance(self.kernel, str | Path):  # a recipe needs the path
            object.__setattr__(self, "kernel", kernel)

    def __call__(self, image: Tensor) -> Tensor:
        axes, sides = require_grid(image), tuple(image.shape[2:])
        if self._values.ndim != axes:
            raise InputError("kernel", f"{axes} dimensions, as the images of {sides}", tuple(self._values.shape))
        radii = [side // 2 for side in self._values.shape]
        if any(radius >= side for radius, side in zip(radii, sides, strict=True)):
            expected = f"under {tuple(2 * side for side in sides)}, for images of {sides}"
            raise InputError("kernel", expected, tuple(self._values.shape))
        padded = F.pad(image, [radius for radius in reversed(radii) for _ in range(2)], mode="reflect")
        flipped = self._values.flip(*range(axes)).to(image)[None, None]  # a convolution, not a correlation
        return CONVOLUTIONS[axes - 1](padded.flatten(0, 1)[:, None], flipped).reshape(image.shape)


def _mirrored(image: Tensor, radius: int, name: str) -> Tensor:
    """Pad with mirrored borders, channel by channel: (B C, 1, H + 2 radius, W + 2 radius)."""
    axes, smallest = require_grid(image), min(image.shape[2:])
    if radius >= smallest:
        expected = f"a kernel that reaches under {smallest} pixels, the image's smallest side"
        raise InputError(name, expected, f"{radius} pixels")
    channels = image.reshape(-1, 1, *image.shape[2:])
    return F.pad(channels, (radius,) * 2 * axes, mode="reflect") if radius else channels
