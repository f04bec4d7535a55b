"""Operators that keep, hide or mix single pixels."""

from abc import abstractmethod
from dataclasses import dataclass

from torch import Tensor

from latentopt.errors import InputError, positive
from latentopt.operators.base import Operator


@dataclass(frozen=True)
class Identity(Operator):
    """The image itself."""

    def __call__(self, image: Tensor) -> Tensor:
        return image


class _Hiding(Operator):
    """An operator that multiplies each pixel by a weight; noise does not reach those whose weight is 0."""

    def __call__(self, image: Tensor) -> Tensor:
        return image * self._weights(image)

    def add_noise(self, measurement: Tensor, sigma: float, seed: int) -> Tensor:
        """As `Operator.add_noise`, but exactly 0 at the pixels that are hidden."""
        noisy = super().add_noise(measurement, sigma, seed)
        return noisy.masked_fill(self._weights(measurement) == 0, 0)

    @abstractmethod
    def _weights(self, image: Tensor) -> Tensor:
        """In [0, 1], to broadcast to ``image`` (B, C, H, W)."""


@dataclass(frozen=True, eq=False)
class Mask(_Hiding):
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

    def _weights(self, image: Tensor) -> Tensor:
        try:
            return self.mask.to(image).expand(image.shape[1:])
        except RuntimeError:
            raise InputError("mask", f"a shape that fits {tuple(image.shape[1:])}", tuple(self.mask.shape)) from None


@dataclass(frozen=True)
class Hole(_Hiding):
    """The image with a square of ``size`` pixels in its middle set to 0 (inpainting), also by `add_noise`."""

    size: int

    def __post_init__(self) -> None:
        positive("Hole.size", self.size, integer=True)

    def _weights(self, image: Tensor) -> Tensor:
        if self.size >= min(image.shape[-2:]):
            raise InputError("Hole.size", f"under {min(image.shape[-2:])}, the image's smaller side", self.size)
        keep = image.new_ones(image.shape[-2:])
        keep[_centre(image, self.size)] = 0
        return keep


@dataclass(frozen=True)
class Crop(Operator):
    """The central square of ``size`` pixels."""

    size: int

    def __post_init__(self) -> None:
        positive("Crop.size", self.size, integer=True)

    def __call__(self, image: Tensor) -> Tensor:
        if self.size > min(image.shape[-2:]):
            raise InputError("Crop.size", f"at most {min(image.shape[-2:])}, the image's smaller side", self.size)
        return image[(..., *_centre(image, self.size))]


def _centre(image: Tensor, size: int) -> tuple[slice, slice]:
    top, left = ((side - size) // 2 for side in image.shape[-2:])
    return slice(top, top + size), slice(left, left + size)


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
