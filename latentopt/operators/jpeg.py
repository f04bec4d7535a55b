"""JPEG compression (ITU-T T.81), as libjpeg and Pillow write and read it by default: 4:2:0, standard tables."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from latentopt.arguments import checked
from latentopt.errors import InputError, positive
from latentopt.operators.base import Operator, require_images
from latentopt.operators.intensity import round_straight_through

LUMA = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
"""The quantisation table of luma at quality 50 (T.81, K.1), 8 x 8."""
CHROMA = (
    *(17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99),
    *(47, 66, 99, 99, 99, 99, 99, 99, *[99] * 32),
)
"""That of chroma (K.2)."""
TO_YCC = ((19595, 38470, 7471), (-11058, -21710, 32768), (32768, -27439, -5329))
"""JFIF's luma and chroma (around 0) of RGB, in units of 2**-16."""
TO_RGB = ((0, 91881), (-22554, -46802), (116130, 0))
"""What blue and red chroma add to luma in R, G and B, in units of 2**-16."""
DCT = (
    *(8192, 8192, 8192, 8192, 11363, 9633, 6437, 2260, 10703, 4433, -4433, -10703, 9633, -2259, -11362, -6436),
    *(8192, -8192, -8192, 8192, 6437, -11362, 2261, 9633, 4433, -10704, 10704, -4433, 2260, -6436, 9633, -11363),
)
"""The left halves of the rows of libjpeg's accurate integer DCT, in units of 2**-13."""

Round = Callable[[Tensor], Tensor]


@checked
@dataclass(frozen=True)
class JPEG(Operator):
    """The image as its JPEG file would be decoded, with Pillow's defaults: 4:2:0 chroma, standard tables.

    Images of one channel are compressed as grey ones. Values outside [0, 1] become 0 or 1, and values are rounded to
    bytes, before and after. The gradient passes every rounding as if there were none (straight-through); for a loss
    whose gradient is exact, see `latentopt.objectives.Consistent`.

    Args:
        quality: a whole number from 1 to 100, as of ``PIL.Image.save``.

    Raises:
        InputError: the quality is out of range; at a call, the images are not (B, 1 or 3, H, W).

    >>> import torch
    >>> JPEG(50)(torch.full((1, 1, 8, 8), 0.5)).unique()
    tensor([0.5020])
    """

    quality: int

    def __post_init__(self) -> None:
        positive("JPEG.quality", self.quality, integer=True)
        if self.quality > 100:
            raise InputError("JPEG.quality", "an integer from 1 to 100", self.quality)

    def tables(self) -> Tensor:
        """Return the quantisation tables of luma and of chroma, (2, 8, 8) float64."""
        scale = 5000 // self.quality if self.quality < 50 else 200 - 2 * self.quality
        base = torch.tensor((LUMA, CHROMA), device="cpu")
        return ((base * scale + 50) // 100).clamp(1, 255).double().reshape(2, 8, 8)

    def __call__(self, image: Tensor) -> Tensor:
        self._require_pixels(image)
        decoded = list[Tensor]()
        planes = _planes(255 * image, _round)
        for plane, table in zip(planes, self._plane_tables(len(planes)), strict=True):
            coefficients = round_straight_through(_encode(plane, table, _round))
            decoded.append(_decode(coefficients, table, plane.shape, _round).clamp(-128, 127))
        return _image(decoded, _round, image.shape).clamp(0, 255) / 255

    def consistent(self, image: Tensor, measurement: Tensor) -> Tensor:
        """Return the measurement, moved by as much as the image's DCT coefficients leave the cells of its own.

        A coefficient of the file says that the image's lies within half a step of the table around it.

        Args:
            image: (B, 1 or 3, H, W), before the compression.
            measurement: like the image, decoded.

        Returns:
            Values like the image, equal to the measurement where the image's file could be the one measured.
        """
        self._require_pixels(image)
        if measurement.shape != image.shape:
            raise InputError("measurement", f"shape {tuple(image.shape)}", tuple(measurement.shape))
        excess = list[Tensor]()
        planes, measured = _planes(255 * image, _as_it_is), _measured_planes(255 * measurement.detach())
        for plane, other, table in zip(planes, measured, self._plane_tables(len(planes)), strict=True):
            cells = round_straight_through(_encode(other, table, _as_it_is))
            coefficients = _encode(plane, table, _as_it_is)
            outside = coefficients - coefficients.clamp(cells - 0.5, cells + 0.5)
            excess.append(_decode(outside, table, plane.shape, _as_it_is))
        return measurement + _image(excess, _as_it_is, image.shape) / 255

    def _plane_tables(self, planes: int) -> list[Tensor]:
        luma, chroma = self.tables()
        return [luma, chroma, chroma][:planes]

    def _require_pixels(self, image: Tensor) -> None:
        require_images(image)
        if image.shape[1] not in (1, 3):
            raise InputError("image", "1 or 3 channels, (B, 1 or 3, H, W)", tuple(image.shape))


def _as_it_is(x: Tensor) -> Tensor:
    return x


def _round(x: Tensor) -> Tensor:
    """Round, half up; the gradient is that of the identity."""
    return _floor(x + 0.5)


def _floor(x: Tensor) -> Tensor:
    """Round down; the gradient is that of the identity."""
    return x.detach().floor() + (x - x.detach())


def _planes(image: Tensor, rounded: Round) -> list[Tensor]:
    """Return luma, and chroma of half the height and width, each (B, h, w), around 0, of an image in bytes."""
    levels = image if rounded is _as_it_is else rounded(image.clamp(0, 255))
    if image.shape[1] == 1:
        return [levels[:, 0] - 128]
    luma, *chroma = torch.einsum("pc, bchw -> pbhw", levels.new_tensor(TO_YCC) / 2**16, levels).unbind()
    return [rounded(luma) - 128, *(_halved(-rounded(-plane), rounded) for plane in chroma)]


def _measured_planes(image: Tensor) -> list[Tensor]:
    """Return the planes of a decoded image as they were in its file: decoding has smoothed chroma, which is undone."""
    luma, *chroma = _planes(image, _as_it_is)
    if not chroma:
        return [luma]
    rows, columns = (_unsmoothing(side).to(image) for side in image.shape[-2:])
    return [luma, *(rows @ plane[..., : len(columns)] @ columns.T for plane in chroma)]


@lru_cache(maxsize=8)
def _unsmoothing(side: int) -> Tensor:
    """Return the inverse of doubling a row of chroma to ``side`` pixels and halving it again, (k, k) float64."""
    rows = torch.eye(math.ceil(side / 2), dtype=torch.float64, device="cpu")[:, None]
    smoothed = _halved(_doubled(rows, _as_it_is)[..., :side], _as_it_is)[:, 0, : len(rows)]
    return torch.linalg.inv(smoothed.T)


def _halved(plane: Tensor, rounded: Round) -> Tensor:
    """Return the means of blocks of 2 x 2 pixels, with columns up to a multiple of 8: libjpeg pads before it halves."""
    height, width = plane.shape[-2:]
    padded = F.pad(plane[:, None], (0, -width % 16, 0, height % 2), mode="replicate")
    means = F.avg_pool2d(padded, 2)[:, 0]
    if rounded is _as_it_is:
        return means
    bias = torch.tensor([0.25, 0.5], device=means.device, dtype=means.dtype).repeat(means.shape[-1])
    return _floor(means + bias[: means.shape[-1]])


def _doubled(plane: Tensor, rounded: Round) -> Tensor:
    """Return a plane of twice the sides, between pixels by 9, 3, 3 and 1 sixteenths of the four nearest."""
    double = F.interpolate(plane[:, None], scale_factor=2, mode="bilinear", align_corners=False)[:, 0]
    if rounded is _as_it_is:
        return double
    bias = torch.tensor([8, 7], device=plane.device, dtype=plane.dtype).repeat(plane.shape[-1]) / 16
    return _floor(double + bias)


def _image(planes: list[Tensor], rounded: Round, shape: torch.Size) -> Tensor:
    """Return an image in bytes (B, C, H, W) of its planes; with the identity as rounding, a difference of images."""
    whole = 0 if rounded is _as_it_is else 128
    if len(planes) == 1:
        return (planes[0] + whole).reshape(shape)
    luma, *chroma = planes
    blue, red = (_doubled(plane[..., : -(shape[-1] // -2)], rounded) for plane in chroma)
    colour = torch.einsum("cp, pbhw -> bchw", luma.new_tensor(TO_RGB) / 2**16, torch.stack([blue, red]))
    return luma[:, None] + whole + rounded(colour[..., : shape[-2], : shape[-1]])


def _encode(plane: Tensor, table: Tensor, rounded: Round) -> Tensor:
    """Return DCT coefficients (B, blocks, 8, 8) in steps of the table."""
    height, width = plane.shape[-2:]
    padded = F.pad(plane[:, None], (0, -width % 8, 0, -height % 8), mode="replicate")
    blocks = F.unfold(padded, 8, stride=8).transpose(1, 2).unflatten(2, (8, 8))
    dct = _dct().to(plane)
    rows = rounded(4 * (blocks @ dct.T)) / 4
    return rounded(dct @ rows) / (8 * table).to(plane)


def _decode(coefficients: Tensor, table: Tensor, shape: torch.Size, rounded: Round) -> Tensor:
    """Return the plane (B, h, w) of coefficients."""
    height, width = shape[-2:]
    dct = _dct().to(coefficients)
    columns = rounded(4 * (dct.T @ (coefficients * table.to(coefficients)))) / 4
    blocks = rounded(columns @ dct / 8)
    sides = (height + -height % 8, width + -width % 8)
    return F.fold(blocks.flatten(2).transpose(1, 2), sides, 8, stride=8)[:, 0, :height, :width]


@lru_cache(maxsize=1)
def _dct() -> Tensor:
    """Return the DCT of libjpeg, (8, 8) float64: sqrt(8) times the orthogonal one, to 13 bits."""
    half = torch.tensor(DCT, dtype=torch.float64, device="cpu").reshape(8, 4) / 2**13
    signs = torch.tensor([1.0, -1.0], device="cpu").repeat(4)[:, None]
    return torch.cat([half, signs * half.flip(1)], 1)
