"""Linear measurement operators: what is known of an image (B, C, H, W)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from latentopt.errors import InputError, positive


class Operator(ABC):
    """A linear map from images (B, C, H, W) to measurements (B, ...)."""

    @abstractmethod
    def __call__(self, image: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Identity(Operator):
    """The image itself."""

    def __call__(self, image: Tensor) -> Tensor:
        return image


@dataclass(frozen=True, eq=False)
class Mask(Operator):
    """The image times ``mask``, which broadcasts to (C, H, W); 1 keeps a pixel, 0 hides it."""

    mask: Tensor

    def __post_init__(self) -> None:
        if not bool(self.mask.any()):
            raise InputError("mask", "a pixel that is kept", "all zeros")

    def __call__(self, image: Tensor) -> Tensor:
        try:
            return image * self.mask.to(image).expand(image.shape[1:])
        except RuntimeError:
            raise InputError("mask", f"a shape that fits {tuple(image.shape[1:])}", tuple(self.mask.shape)) from None


@dataclass(frozen=True)
class Hole(Operator):
    """The image with a square of ``size`` pixels in its middle set to 0 (inpainting)."""

    size: int

    def __post_init__(self) -> None:
        positive("Hole.size", self.size, integer=True)

    def __call__(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        if self.size >= min(height, width):
            raise InputError("Hole.size", f"under {min(height, width)}, the image's smaller side", self.size)
        keep = torch.ones(height, width)
        top, left = (height - self.size) // 2, (width - self.size) // 2
        keep[top : top + self.size, left : left + self.size] = 0
        return image * keep.to(image)


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
class Downsample(Operator):
    """Average pooling: every pixel of the result is the mean of a block of ``factor`` x ``factor`` pixels.

    The factor need not be whole (2.5: a pixel on a block's border counts for each block by the area it has there),
    but it must divide height and width.

    >>> Downsample(2)(torch.arange(16.0).reshape(1, 1, 4, 4)).flatten().tolist()
    [2.5, 4.5, 10.5, 12.5]
    """

    factor: float

    def __post_init__(self) -> None:
        if not 1 <= self.factor < float("inf"):
            raise InputError("Downsample.factor", "a number >= 1", self.factor)

    def __call__(self, image: Tensor) -> Tensor:
        if self.factor == int(self.factor) and all(size % self.factor == 0 for size in image.shape[-2:]):
            return F.avg_pool2d(image, int(self.factor))
        rows, columns = (self._weights(size).to(image) for size in image.shape[-2:])
        return rows @ image @ columns.T

    def _weights(self, size: int) -> Tensor:
        """(size / factor, size): the share that each pixel has in each block."""
        blocks = round(size / self.factor)
        if blocks < 1 or abs(blocks * self.factor - size) > 1e-6:
            raise InputError("Downsample.factor", f"a divisor of the image's side {size}", self.factor)
        start = torch.arange(blocks, dtype=torch.float64)[:, None] * self.factor
        pixel = torch.arange(size, dtype=torch.float64)
        overlap = torch.minimum(start + self.factor, pixel + 1) - torch.maximum(start, pixel)
        return overlap.clamp_min(0) / self.factor


@dataclass(frozen=True)
class Compose(Operator):
    """Several operators, the first applied first."""

    operators: Sequence[Operator]

    def __call__(self, image: Tensor) -> Tensor:
        for operator in self.operators:
            image = operator(image)
        return image
