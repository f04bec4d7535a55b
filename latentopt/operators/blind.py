"""Blurs, shifts and exposures whose parameters are unknown; borders are mirrored as by `latentopt.operators.Blur`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from latentopt.arguments import checked
from latentopt.errors import InputError, positive
from latentopt.operators.base import require_images
from latentopt.operators.unknown import BlindOperator, LogUniform, ParameterPrior, Simplex, Uniform, as_prior

Range = Sequence[float] | ParameterPrior
"""Bounds (low, high) of a parameter, or its prior."""


@checked
@dataclass(frozen=True)
class BlindBlur(BlindOperator):
    """A Gaussian blur of unknown width, as `Blur` of the same radius.

    Args:
        sigma: bounds of the standard deviation in pixels, > 0, between which its logarithm is uniform; or a prior.
        radius: the kernel has 2 radius + 1 pixels a side. None: ceil(3 times the upper bound), and at most what fits
            the image.
        seed: of the widths by which images are measured.
    """

    sigma: Range = (0.5, 3.0)
    radius: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not getattr(self.priors["sigma"], "low", 1) > 0:
            raise InputError("BlindBlur.sigma", "bounds above 0", self.sigma)
        if self.radius is not None:
            positive("BlindBlur.radius", self.radius, integer=True)
        elif not hasattr(self.priors["sigma"], "high"):
            raise InputError("BlindBlur.radius", "a number of pixels, as the prior has no upper bound", "None")

    @property
    def priors(self) -> Mapping[str, ParameterPrior]:
        return {"sigma": as_prior("BlindBlur.sigma", self.sigma, LogUniform)}

    def measure(self, image: Tensor, **values: Tensor) -> Tensor:
        require_images(image)
        most = math.ceil(3 * getattr(self.priors["sigma"], "high", 0))
        radius = min(most, *(side - 1 for side in image.shape[-2:])) if self.radius is None else self.radius
        kernel = (-((_offsets(radius, image) / values["sigma"][:, None]) ** 2) / 2).softmax(1)
        return _separable(image, kernel, kernel, "BlindBlur.radius")


@checked
@dataclass(frozen=True)
class BlindShift(BlindOperator):
    """An unknown shift, bilinear between pixels.

    Args:
        pixels: greatest shift, > 0, to the right and down or to the left and up.
        seed: of the shifts by which images are measured.
    """

    pixels: float = 3.0
    seed: int = 0

    def __post_init__(self) -> None:
        positive("BlindShift.pixels", self.pixels)

    @property
    def priors(self) -> Mapping[str, ParameterPrior]:
        return {"shift": Uniform(-self.pixels, self.pixels, shape=(2,))}

    def measure(self, image: Tensor, **values: Tensor) -> Tensor:
        require_images(image)
        offset = _offsets(math.ceil(self.pixels), image)
        right, down = ((1 - (offset + by[:, None]).abs()).clamp_min(0) for by in values["shift"].unbind(1))
        return _separable(image, down, right, "BlindShift.pixels")


@checked
@dataclass(frozen=True)
class BlindKernel(BlindOperator):
    """Convolution with an unknown kernel, whose weights are not negative and sum to 1.

    Args:
        side: the kernel has side x side pixels, odd.
        spread: standard deviation of the logarithms of the weights, > 0.
        seed: of the kernels by which images are measured.
    """

    side: int = 5
    spread: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        positive("BlindKernel.side", self.side, integer=True)
        if self.side % 2 == 0:
            raise InputError("BlindKernel.side", "an odd number of pixels", self.side)

    @property
    def priors(self) -> Mapping[str, ParameterPrior]:
        return {"kernel": Simplex((self.side, self.side), self.spread)}

    def measure(self, image: Tensor, **values: Tensor) -> Tensor:
        return _convolve(image, values["kernel"], "BlindKernel.side")


@checked
@dataclass(frozen=True)
class BlindMotion(BlindOperator):
    """The mean of the image along a line of unknown length and angle through each pixel, as `MotionBlur`.

    Args:
        length: bounds of the length in pixels, >= 1, or a prior.
        angle: bounds of the angle in degrees, counter-clockwise from horizontal, or a prior.
        points: number of points of the line, which lie length / points apart.
        seed: of the motions by which images are measured.
    """

    length: Range = (1.0, 9.0)
    angle: Range = (-90.0, 90.0)
    points: int = 33
    seed: int = 0

    def __post_init__(self) -> None:
        positive("BlindMotion.points", self.points, integer=True)
        length = self.priors["length"]
        if not getattr(length, "low", 0) >= 1 or not hasattr(length, "high"):
            raise InputError("BlindMotion.length", "bounds of at least 1 pixel", self.length)

    @property
    def priors(self) -> Mapping[str, ParameterPrior]:
        length = as_prior("BlindMotion.length", self.length)
        return {"length": length, "angle": as_prior("BlindMotion.angle", self.angle)}

    def measure(self, image: Tensor, **values: Tensor) -> Tensor:
        high: float = getattr(self.priors["length"], "high")  # noqa: B009
        pixel, angle = _offsets(math.ceil(high / 2), image), values["angle"].deg2rad()
        ends = torch.linspace(-0.5, 0.5, self.points + 1, dtype=image.dtype, device=image.device)
        along = (ends[1:] + ends[:-1]) / 2 * values["length"][:, None]  # (B, points), the middles of equal pieces
        row, column = (
            (1 - (pixel - (along * slope[:, None])[..., None]).abs()).clamp_min(0)
            for slope in (-angle.sin(), angle.cos())
        )
        return _convolve(image, row.mT @ column / self.points, "BlindMotion.length")


@checked
@dataclass(frozen=True)
class BlindExposure(BlindOperator):
    """The image times an unknown factor.

    Args:
        factor: bounds of the factor, > 0, between which its logarithm is uniform; or a prior.
        seed: of the factors by which images are measured.
    """

    factor: Range = (0.5, 2.0)
    seed: int = 0

    def __post_init__(self) -> None:
        as_prior("BlindExposure.factor", self.factor, LogUniform)

    @property
    def priors(self) -> Mapping[str, ParameterPrior]:
        return {"factor": as_prior("BlindExposure.factor", self.factor, LogUniform)}

    def measure(self, image: Tensor, **values: Tensor) -> Tensor:
        return image * values["factor"].reshape(-1, *[1] * (image.ndim - 1))


def _offsets(radius: int, image: Tensor) -> Tensor:
    return torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)


def _separable(image: Tensor, down: Tensor, right: Tensor, name: str) -> Tensor:
    """Correlate images (B, C, H, W) with kernels (B, 2 radius + 1), one along the columns and one along the rows."""
    rows, columns = (_matrix(k, side, name) for k, side in zip((down, right), image.shape[-2:], strict=True))
    return rows[:, None] @ image @ columns[:, None].mT


def _matrix(kernel: Tensor, side: int, name: str) -> Tensor:
    """Return the matrices (B, side, side) of correlations (B, 2 radius + 1) whose borders are mirrored."""
    radius = kernel.shape[1] // 2
    if radius >= side:
        raise InputError(name, f"a kernel that reaches under {side} pixels, the image's side", f"{radius} pixels")
    place = torch.arange(side, device=kernel.device)[:, None] + torch.arange(-radius, radius + 1, device=kernel.device)
    mirrored = (side - 1) - ((side - 1) - place.abs()).abs()
    return torch.einsum("bo,ioj->bij", kernel, F.one_hot(mirrored, side).to(kernel))


def _convolve(image: Tensor, kernel: Tensor, name: str) -> Tensor:
    """Convolve images (B, C, H, W) with a kernel (B, k, k) each, k odd."""
    require_images(image)
    radius, channels = kernel.shape[-1] // 2, image.shape[1]
    if radius >= min(image.shape[-2:]):
        expected = f"a kernel that reaches under {min(image.shape[-2:])} pixels, the image's smaller side"
        raise InputError(name, expected, f"{radius} pixels")
    padded = F.pad(image, (radius,) * 4, mode="reflect").flatten(0, 1)[None] if radius else image.flatten(0, 1)[None]
    weights = kernel.flip(1, 2).repeat_interleave(channels, 0)[:, None]
    return F.conv2d(padded, weights, groups=len(weights)).reshape(image.shape)
