"""Operators on single pixels: masks, crops and luma."""

import copy
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latentopt.errors import InputError, positive
from latentopt.noise import NoiseDraw
from latentopt.operators.base import Operator, as_real_tensor, require_grid


@dataclass(frozen=True)
class Identity(Operator):
    """The image itself."""

    is_linear = True

    def __call__(self, image: Tensor) -> Tensor:
        return image


class _PixelWeights(Operator):
    """An operator that multiplies each pixel by a weight; pixels of weight 0 get no noise."""

    is_linear = True

    def __call__(self, image: Tensor) -> Tensor:
        return image * self._weights(image)

    def add_noise(self, measurement: Tensor, sigma: float | NoiseDraw, seed: int) -> Tensor:
        """Add noise as `Operator.add_noise`, but keep hidden pixels exactly 0."""
        noisy = super().add_noise(measurement, sigma, seed)
        return noisy.masked_fill(self._weights(measurement) == 0, 0)

    @abstractmethod
    def _weights(self, image: Tensor) -> Tensor:
        """Return weights in [0, 1] that broadcast to ``image`` (B, C, H, W)."""


@dataclass(frozen=True, eq=False)
class Mask(_PixelWeights):
    """The image times a mask.

    Args:
        mask: tensor, array or lists that broadcast to (C, H, W), or one mask for each image, (B, 1 or C, H, W), or
            (B, H, W) for images of one channel; or the path of an image (white keeps a pixel, black hides it), of a
            folder of images, one for each, or of an array file. Values are in [0, 1] or boolean: 1 keeps a pixel, 0
            hides it, also from noise (`add_noise`). Bytes above 1 are divided by 255. Each mask keeps at least one
            pixel.

    Raises:
        InputError: the mask is not as described; at a call, it does not fit the images.
    """

    mask: str | Path | Tensor | np.ndarray | list[list[float]]
    _values = torch.ones(1)  # the mask
    _rows = None  # (B,) index into `mask` of each image; None: in order (no annotation: no argument)

    def __post_init__(self) -> None:
        mask = as_real_tensor("mask", self.mask)
        object.__setattr__(self, "_values", mask)
        if not isinstance(self.mask, str | Path):  # a recipe needs the path
            object.__setattr__(self, "mask", mask)
        keeps_any = mask.flatten(1).any(1) if mask.ndim >= 4 else mask.any()
        if not bool(keeps_any.all()):
            raise InputError("mask", "a pixel that is kept", "all zeros")
        low, high = float(mask.min()), float(mask.max())
        if low < 0 or high > 1:
            raise InputError("mask", "values in [0, 1]", f"values from {low:g} to {high:g}")

    def take(self, rows: Tensor) -> "Mask":
        chosen = copy.copy(self)  # indexed at a call: only images show whether there is a mask for each
        rows = rows.to(self._values.device)
        object.__setattr__(chosen, "_rows", rows if self._rows is None else self._rows[rows])
        return chosen

    def _weights(self, image: Tensor) -> Tensor:
        mask, shape = self._values, tuple(image.shape[1:])
        if mask.ndim == image.ndim - 1 and shape[0] == 1 and len(mask) > 1:
            mask = mask[:, None]
        if mask.ndim == image.ndim and len(mask) > 1:
            count = len(image) if self._rows is None else int(self._rows.max()) + 1
            if len(mask) < count or (self._rows is None and len(mask) > count):
                raise InputError("mask", f"one mask for all images or {count}, one for each", len(mask))
            mask = mask if self._rows is None else mask[self._rows]
        try:
            return mask.to(image).expand(image.shape if mask.ndim == image.ndim else shape)
        except RuntimeError:
            sides = ", ".join(map(str, shape[1:]))
            expected = f"a shape that fits {shape}, or (B, 1, {sides}), one for each image"
            raise InputError("mask", expected, tuple(self._values.shape)) from None


@dataclass(frozen=True)
class Hole(_PixelWeights):
    """The image with a central square set to 0 (inpainting), also by `add_noise`.

    Of a signal it is a central interval, of a volume a central cube.

    Args:
        size: side of the square in pixels, under the image's smallest side.
    """

    size: int

    def __post_init__(self) -> None:
        positive("Hole.size", self.size, integer=True)

    def _weights(self, image: Tensor) -> Tensor:
        require_grid(image)
        if self.size >= min(image.shape[2:]):
            raise InputError("Hole.size", f"under {min(image.shape[2:])}, the image's smallest side", self.size)
        weights = image.new_ones(image.shape[2:])
        weights[_centre(image, self.size)] = 0
        return weights


@dataclass(frozen=True)
class Crop(Operator):
    """The central square of the image; of a signal the central interval, of a volume the central cube.

    Args:
        size: side of the square in pixels, at most the image's smallest side.
    """

    size: int
    is_linear = True

    def __post_init__(self) -> None:
        positive("Crop.size", self.size, integer=True)

    def __call__(self, image: Tensor) -> Tensor:
        require_grid(image)
        if self.size > min(image.shape[2:]):
            raise InputError("Crop.size", f"at most {min(image.shape[2:])}, the image's smallest side", self.size)
        return image[(..., *_centre(image, self.size))]


def _centre(image: Tensor, size: int) -> tuple[slice, ...]:
    return tuple(slice((side - size) // 2, (side - size) // 2 + size) for side in image.shape[2:])


@dataclass(frozen=True)
class Grey(Operator):
    """The luma (B, 1, H, W) of an RGB image (B, 3, H, W): 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601).

    >>> import torch
    >>> [round(float(luma), 3) for luma in Grey()(torch.eye(3)[..., None, None])]
    [0.299, 0.587, 0.114]
    """

    is_linear = True

    def __call__(self, image: Tensor) -> Tensor:
        if image.ndim != 4 or image.shape[1] != 3:
            raise InputError("image", "3 channels, (B, 3, H, W)", tuple(image.shape))
        red, green, blue = image.split(1, 1)
        return 0.299 * red + 0.587 * green + 0.114 * blue
