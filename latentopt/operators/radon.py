"""Tomography: line integrals of an image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from latentopt.errors import InputError, positive
from latentopt.operators.base import Operator, require_images


@dataclass(frozen=True)
class Radon(Operator):
    """The Radon transform with parallel beams, a sinogram (B, C, A, D) of A angles and D detectors.

    A value is the sum over a line of points one pixel apart, interpolated bilinearly, 0 outside the image. The
    detectors, D = ceil(sqrt(2) max(H, W)), see the whole image at each angle. It is
    ``skimage.transform.radon(image, angles, circle=False)`` of scikit-image, transposed. The matrix of the weights,
    sparse, is cached for the transforms used last.

    Args:
        angles: in degrees, at least one; or their number, spread evenly over [0, 180).

    Raises:
        InputError: there is no angle, or one is not finite.

    >>> import torch
    >>> Radon([0.0])(torch.eye(3)[None, None]).tolist()  # the sums of columns
    [[[[0.0, 1.0, 1.0, 1.0, 0.0]]]]
    """

    angles: int | Sequence[float]
    is_linear = True

    def __post_init__(self) -> None:
        if isinstance(self.angles, int):
            positive("Radon.angles", self.angles, integer=True)
            return
        angles = torch.as_tensor(self.angles, dtype=torch.float64, device="cpu")
        if angles.ndim != 1 or not len(angles) or not bool(angles.isfinite().all()):
            raise InputError("Radon.angles", "finite numbers of degrees, at least one", f"{self.angles}")
        object.__setattr__(self, "angles", tuple(angles.tolist()))

    def degrees(self) -> tuple[float, ...]:
        """Return the angles in degrees."""
        angles = self.angles
        return tuple(180 * k / angles for k in range(angles)) if isinstance(angles, int) else tuple(angles)

    def __call__(self, image: Tensor) -> Tensor:
        require_images(image)
        batch, channels, height, width = image.shape
        sums = _project(image.reshape(-1, height * width), list(self.degrees()), height, width, False)
        return sums.reshape(batch, channels, len(self.degrees()), _detectors(height, width))


def _detectors(height: int, width: int) -> int:
    return math.ceil(math.sqrt(2) * max(height, width))


@torch.library.custom_op("latentopt::radon", mutates_args=())
def _project(x: Tensor, degrees: list[float], height: int, width: int, transpose: bool) -> Tensor:
    """Compute A x (B, A D), or with ``transpose`` A^T x (B, H W); one operation for autograd and compilers."""
    matrix = _matrix(tuple(degrees), height, width, transpose, x.dtype, x.device)
    return (matrix @ x.T).T.contiguous()


@_project.register_fake
def _(x: Tensor, degrees: list[float], height: int, width: int, transpose: bool) -> Tensor:
    return x.new_empty(len(x), height * width if transpose else len(degrees) * _detectors(height, width))


def _save(ctx, inputs, output) -> None:
    _, *ctx.geometry, ctx.transpose = inputs


def _backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
    return _project(grad, *ctx.geometry, not ctx.transpose), None, None, None, None


_project.register_autograd(_backward, setup_context=_save)


@lru_cache(maxsize=4)
def _matrix(
    degrees: tuple[float, ...], height: int, width: int, transpose: bool, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Return the weight of each pixel in each sum, (A D, H W) or transposed, sparse."""
    with torch.inference_mode(False):  # else no later gradient could use it
        blocks = [_weights(angle, height, width) for angle in degrees]
        matrix = torch.cat(blocks)
        return (matrix.t() if transpose else matrix).coalesce().to(device=device, dtype=dtype)


def _weights(angle: float, height: int, width: int) -> Tensor:
    """Return the weights of one angle (D, H W), sparse, float64."""
    size = _detectors(height, width)
    centre = size // 2
    offset = torch.arange(size, dtype=torch.float64, device="cpu") - centre
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    along, across = offset[:, None], offset[None, :]  # of the point of a line, of the line
    column = cos * across + sin * along + width // 2
    row = -sin * across + cos * along + height // 2
    top, left = row.floor(), column.floor()
    detector = torch.arange(size, device="cpu").expand(size, size)
    entries = list[tuple[Tensor, Tensor, Tensor]]()
    for down in (0, 1):
        for right in (0, 1):
            weight = (1 - (row - top - down).abs()) * (1 - (column - left - right).abs())
            r, c = (top + down).long(), (left + right).long()
            inside = (r >= 0) & (r < height) & (c >= 0) & (c < width) & (weight > 0)
            entries.append((detector[inside], (r * width + c)[inside], weight[inside]))
    detectors, pixels, weights = (torch.cat(parts) for parts in zip(*entries, strict=True))
    return torch.sparse_coo_tensor(
        torch.stack([detectors, pixels]), weights, (size, height * width), check_invariants=True
    ).coalesce()
