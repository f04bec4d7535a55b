"""Downsampling by averages and by the bicubic kernel."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from latentopt.arguments import checked
from latentopt.errors import InputError
from latentopt.operators.base import Operator, require_grid, require_images


@checked
@dataclass(frozen=True)
class Downsample(Operator):
    """Average pooling: each pixel of the result is the mean of a block of ``factor`` x ``factor`` pixels.

    Signals are averaged along their one axis, volumes along all three.

    Args:
        factor: a number >= 1 that divides height and width. It need not be whole: at 2.5 a pixel on a block's border
            counts for each block by its area there.

    >>> import torch
    >>> Downsample(2)(torch.arange(16.0).reshape(1, 1, 4, 4)).flatten().tolist()
    [2.5, 4.5, 10.5, 12.5]
    """

    factor: float
    is_linear = True

    def __post_init__(self) -> None:
        if not 1 <= self.factor < float("inf"):
            raise InputError("Downsample.factor", "a number >= 1", self.factor)

    def __call__(self, image: Tensor) -> Tensor:
        axes, whole = require_grid(image), int(self.factor)
        if self.factor == whole and all(size % whole == 0 for size in image.shape[2:]):
            return (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[axes - 1](image, whole)
        for axis in range(2, image.ndim):
            weights = self._weights(image.shape[axis]).to(image)
            image = (image.movedim(axis, -1) @ weights.T).movedim(-1, axis)
        return image

    def _weights(self, size: int) -> Tensor:
        """Return the share of each pixel in each block, (size / factor, size)."""
        blocks = round(size / self.factor)
        if blocks < 1 or abs(blocks * self.factor - size) > 1e-6:
            raise InputError("Downsample.factor", f"a divisor of the image's side {size}", self.factor)
        start = torch.arange(blocks, dtype=torch.float64, device="cpu")[:, None] * self.factor
        pixel = torch.arange(size, dtype=torch.float64, device="cpu")
        overlap = torch.minimum(start + self.factor, pixel + 1) - torch.maximum(start, pixel)
        return overlap.clamp_min(0) / self.factor


@checked
@dataclass(frozen=True)
class Bicubic(Operator):
    """Bicubic downsampling with antialiasing: the kernel (a = -0.5) is widened by ``factor``, as Pillow does.

    It is ``torch.nn.functional.interpolate(mode="bicubic", antialias=True)``. As the result is not clamped, the
    operator is linear, and values can leave the image's range. Unlike in `Downsample`, each pixel sees 4 x 4 blocks.

    Args:
        factor: a number >= 1 that divides height and width.
    """

    factor: float
    is_linear = True

    def __post_init__(self) -> None:
        if not 1 <= self.factor < float("inf"):
            raise InputError("Bicubic.factor", "a number >= 1", self.factor)

    def __call__(self, image: Tensor) -> Tensor:
        require_images(image)
        sides = [round(size / self.factor) for size in image.shape[-2:]]
        for size, side in zip(image.shape[-2:], sides, strict=True):
            if side < 1 or abs(side * self.factor - size) > 1e-6:
                raise InputError("Bicubic.factor", f"a divisor of the image's side {size}", self.factor)
        return F.interpolate(image, sides, mode="bicubic", antialias=True)
