"""Fourier transforms: undersampled, with several coils (magnetic resonance), and their magnitudes (phase retrieval)."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from latentopt.arguments import Values
from latentopt.errors import InputError
from latentopt.files import read_values
from latentopt.noise import NoiseDraw
from latentopt.operators.base import Operator, as_real_tensor, require_images
from latentopt.operators.complex_parts import to_parts


@dataclass(frozen=True, eq=False)
class Fourier(Operator):
    """The orthonormal 2-D discrete Fourier transform, frequency 0 in the centre; undersampled, and of several coils.

    A measurement is complex, given as its real and imaginary parts: (B, 2, C, H, W), or (B, 2, N, H, W) with N coils.
    The origin of the image is its pixel (H // 2, W // 2). `Operator.add_noise` adds independent noise to both parts.

    Args:
        mask: the frequencies that are measured, in [0, 1] or boolean, broadcasting to (H, W); or the path of an image
            or of an array file. A row of W values keeps whole columns. Others are 0, also after `add_noise`. None: all.
        coils: sensitivity maps, complex (N, H, W), or their real and imaginary parts (2, N, H, W), real; or the path
            of an array file. Images have one channel, and each coil measures the image times its map. None: one coil
            that is equally sensitive everywhere, for each channel.

    Raises:
        InputError: mask or coils are not as described; at a call, they do not fit the images.

    >>> import torch
    >>> Fourier()(torch.ones(1, 1, 2, 2)).flatten().tolist()
    [0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0]
    """

    mask: str | Path | Tensor | np.ndarray | list[float] | list[list[float]] | None = None
    coils: str | Path | Tensor | np.ndarray | None = None
    is_linear = True
    is_complex = True
    _mask = None
    _coils = None

    def __post_init__(self) -> None:
        if self.mask is not None:
            object.__setattr__(self, "_mask", _read_mask(self.mask))
        if self.coils is not None:
            object.__setattr__(self, "_coils", _read_coils(self.coils))

    def __call__(self, image: Tensor) -> Tensor:
        require_images(image)
        if self._coils is not None:
            if tuple(self._coils.shape[1:]) != tuple(image.shape[2:]) or image.shape[1] != 1:
                got = f"coils {tuple(self._coils.shape)} for images {tuple(image.shape[1:])}"
                raise InputError("Fourier.coils", "(N, H, W) for images (1, H, W)", got)
            image = image * self._coils.to(image.device, torch.promote_types(image.dtype, torch.complex64))
        return self._measured(to_parts(_centred_transform(image)))

    def add_noise(self, measurement: Tensor, sigma: float | NoiseDraw, seed: int) -> Tensor:
        """Add noise as `Operator.add_noise`, but keep frequencies of the mask's value 0 exactly 0."""
        noisy = super().add_noise(measurement, sigma, seed)
        return noisy if self._mask is None else noisy.masked_fill(self._fitted_mask(measurement) == 0, 0)

    def _measured(self, parts: Tensor) -> Tensor:
        return parts if self._mask is None else parts * self._fitted_mask(parts)

    def _fitted_mask(self, parts: Tensor) -> Tensor:
        assert self._mask is not None
        sides = parts.shape[-2:]
        try:
            return self._mask.to(parts).expand(sides)
        except RuntimeError:
            raise InputError("Fourier.mask", f"a shape that fits {tuple(sides)}", tuple(self._mask.shape)) from None


@dataclass(frozen=True)
class FourierMagnitude(Operator):
    """Magnitudes of the Fourier transform of the image, padded with zeros (phase retrieval): (B, C, H', W').

    The sides are H' = ceil(oversampling H) and W' = ceil(oversampling W); frequency 0 is in the centre. An image
    between zeros has the magnitudes of its shifts and of itself turned by 180 degrees; from an oversampling of 2 on,
    they are all that has, for almost every image.

    Args:
        oversampling: a number >= 1.

    >>> import torch
    >>> FourierMagnitude(1)(torch.ones(1, 1, 2, 2)).flatten().tolist()
    [0.0, 0.0, 0.0, 2.0]
    """

    oversampling: float = 2.0

    def __post_init__(self) -> None:
        if not 1 <= self.oversampling < math.inf:
            raise InputError("FourierMagnitude.oversampling", "a number >= 1", self.oversampling)

    def __call__(self, image: Tensor) -> Tensor:
        require_images(image)
        height, width = (math.ceil(self.oversampling * side) - side for side in image.shape[-2:])
        return _centred_transform(F.pad(image, (0, width, 0, height))).abs()


def _centred_transform(image: Tensor) -> Tensor:
    """Return the orthonormal transform with the image's origin and frequency 0 in the centre."""
    axes = (-2, -1)
    return torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(image, dim=axes), norm="ortho"), dim=axes)


def _read_mask(value: Values | str | Path) -> Tensor:
    mask = as_real_tensor("Fourier.mask", value)
    mask = mask[0] if mask.ndim == 3 and len(mask) == 1 else mask
    low, high = float(mask.min()), float(mask.max())
    if low < 0 or high > 1 or high == 0:
        raise InputError("Fourier.mask", "values in [0, 1], not all 0", f"values from {low:g} to {high:g}")
    return mask


def _read_coils(value: object) -> Tensor:
    """Return complex sensitivity maps (N, H, W)."""
    numbers = read_values(value, "coils") if isinstance(value, str | Path) else value
    if not isinstance(numbers, Tensor | np.ndarray):
        raise InputError("Fourier.coils", "a tensor, an array or the path of an array file", type(numbers).__name__)
    maps = torch.as_tensor(numbers)
    if maps.ndim == 4 and len(maps) == 2 and not maps.is_complex():
        maps = torch.complex(maps[0].double(), maps[1].double())
    if maps.ndim != 3 or not maps.numel():
        expected = "complex (N, H, W), or real and imaginary parts (2, N, H, W)"
        raise InputError("Fourier.coils", expected, f"{maps.dtype} of shape {tuple(maps.shape)}")
    if not bool(torch.isfinite(maps).all()):
        raise InputError("Fourier.coils", "finite values", "NaN or infinity")
    return maps.to(torch.complex128)
