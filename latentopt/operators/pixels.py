"""Operators that keep, hide or mix single pixels."""

from dataclasses import dataclass

import torch
from torch import Tensor

from latentopt.errors import InputError, positive
from latentopt.operators.base import Operator


@dataclass(frozen=True)
class Identity(Operator):
    """The image itself."""

    def __call__(self, image: Tensor) -> Tensor:
        return image


@dataclass(frozen=True, eq=False)
class Mask(Operator):
    """The image times ``mask``, which broadcasts to (C, H, W).

    Its values are in [0, 1]: 1 keeps a pixel, 0 hides it, also from noise (`add_noise`); at least one is not 0.
    """

    mask: Tensor

    def __post_init__(self) -> None:
        if not bool(self.mask.isfinite().all()):
            raise InputError("mask", "finite values", "NaN or infinity")
        if not bool(self.mask.any()):
            raise InputError("mask", "a pixel that is kept", "all zeros")
        low, high = float(self.mask.min()), float(self.mask.max())
        if low < 0 or high > 1:
            raise InputError("mask", "values in [0, 1]", f"values from {low:g} to {high:g}")

    def __call__(self, image: Tensor) -> Tensor:
        return image * self._weights(image)

    def add_noise(self, measurement: Tensor, sigma: float, seed: int) -> Tensor:
        """As `Operator.add_noise`, but exactly 0 at the pixels that the mask hides."""
        noisy = super().add_noise(measurement, sigma, seed)
        return noisy.masked_fill(self._weights(measurement) == 0, 0)

    def _weights(self, image: Tensor) -> Tensor:
        try:
            return self.mask.to(image).expand(image.shape[1:])
        except RuntimeError:
            raise InputError("mask", f"a shape that fits {tuple(image.shape[1:])}", tuple(self.mask.shape)) from None


@dataclass(frozen=True)
class Hole(Operator):
    """The image with a square of ``size`` pixels in its middle set to 0 (inpainting), also by `add_noise`."""

    size: int

    def __post_init__(self) -> None:
        positive("Hole.size", self.size, integer=True)

    def __call__(self, image: Tensor) -> Tensor:
        return image * self._weights(image)

    def add_noise(self, measurement: Tensor, sigma: float, seed: int) -> Tensor:
        """As `Operator.add_noise`, but exactly 0 in the hole."""
        noisy = super().add_noise(measurement, sigma, seed)
        return noisy.masked_fill(self._weights(measurement) == 0, 0)

    def _weights(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        if self.size >= min(height, width):
            raise InputError("Hole.size", f"under {min(height, width)}, the image's smaller side", self.size)
        keep = torch.ones(height, width)
        top, left = (height - self.size) // 2, (width - self.size) // 2
        keep[top : top + self.size, left : left + self.size] = 0
        return keep.to(image)


@dataclass(frozen=True)
class Crop(Operator):
    """The central square of ``size`` pixels."""

    size: int

    def __post_init__(self) -> None:
        positive("Crop.size", self.size, integer=True)

    def __call__(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        if self.size > min(height, width):
            raise InputError("Crop.size", f"at most {min(height, width)}, the image's smaller side", self.size)
        top, left = (height - self.size) // 2, (width - self.size) // 2
        return image[..., top : top + self.size, left : left + self.size]


@dataclass(frozen=True)
class Grey(Operator):
    """The luma (B, 1, H, W) of an RGB image (B, 3, H, W): 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601).

    >>> import torch
    >>> [round(float(luma), 3) for luma in Grey()(torch.eye(3)[..., None, None])]
    [0.299, 0.587, 0.114]
    """

    def __call__(self, image: Tensor) -> Tensor:
        if image.ndim != 4 or image.shape[1] != 3:
            raise InputError("image", "3 channels, (B, 3, H, W)", tuple(image.shape))
        red, green, blue = image.split(1, 1)
        return 0.299 * red + 0.587 * green + 0.114 * blue
