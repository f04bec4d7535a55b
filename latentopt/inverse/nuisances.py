"""Pose and light of the image, found with the latents (pix2latent, Huh et al. 2020, arXiv 2005.01703)."""

from __future__ import annotations

from math import pi, sqrt
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from latentopt.arguments import checked
from latentopt.errors import InputError, positive
from latentopt.inverse.extra_latents import ExtraLatents, with_parts
from latentopt.networks.generator import Generator

Padding = Literal["border", "zeros", "reflection"]


@checked
def with_nuisances(
    generator: Generator,
    *,
    translate: float | None = None,
    angle: float | None = None,
    scale: float | None = None,
    brightness: float | None = None,
    contrast: float | None = None,
    padding: Padding = "border",
) -> Generator:
    """Return a generator whose latents also move, turn and light its images.

    Each nuisance is a part of the latents, a standard normal number, which `Nuisances.values` maps to a uniform one
    within its limit; 0 leaves the image as it is. So every start, prior and method finds it with the other latents.
    Names and meanings are those of `torchvision.transforms.functional` (affine, adjust_brightness, adjust_contrast).

    Args:
        generator: of images (B, C, H, W). Its latents are the part ``latents``, if they have no names of their own.
        translate: greatest shift, > 0, in pixels to the right and down. None: there is none, as of the others.
        angle: greatest rotation, > 0, in degrees, clockwise.
        scale: greatest enlargement, > 0: sides are multiplied by 1 / (1 + scale) to 1 + scale.
        brightness: greatest change, > 0, of the factor of the image, 1 / (1 + brightness) to 1 + brightness.
        contrast: greatest change, > 0, of the factor of the distance from the mean grey, likewise.
        padding: what is beyond the border: ``border`` (its pixels), ``zeros`` or ``reflection``.

    Returns:
        The generator; its ``module`` is a `Nuisances`.

    Raises:
        InputError: a limit is not positive, all are None, or the generator makes no images.
    """
    given = {"translate": translate, "angle": angle, "scale": scale, "brightness": brightness, "contrast": contrast}
    limits = {name: float(limit) for name, limit in given.items() if limit is not None}
    for name, limit in limits.items():
        positive(name, limit)
    if not limits:
        raise InputError("nuisances", f"a limit of one of {', '.join(given)}", "none")
    if padding not in get_args(Padding):
        raise InputError("padding", f"one of {', '.join(get_args(Padding))}", repr(padding))
    if len(shape := generator.output_shape()) != 3:
        raise InputError("generator", "one of images (B, C, H, W)", f"shape (B, {', '.join(map(str, shape))})")
    module = Nuisances(generator, limits, padding)
    return with_parts(generator, module, {name: (2,) if name == "translate" else (1,) for name in limits})


class Nuisances(ExtraLatents):
    """A generator whose images are moved, turned and lit, as `with_nuisances` describes.

    Args:
        generator: the generator.
        limits: greatest change by nuisance.
        padding: what is beyond the border.
    """

    def __init__(self, generator: Generator, limits: dict[str, float], padding: Padding) -> None:
        super().__init__(generator, list(limits))
        self.limits = limits
        self.padding: Padding = padding

    def values(self, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """Map the parts of latents to the nuisances.

        Args:
            parts: latents (B, n) by name, as `Generator.parts` returns them; other parts are left out.

        Returns:
            ``translate`` (B, 2) in pixels, ``angle`` (B,) in degrees, and the factors (B,) of the others, by name.
        """
        found = dict[str, Tensor]()
        for name, limit in self.limits.items():
            uniform = torch.erf(parts[name] / sqrt(2))
            if name in ("translate", "angle"):
                found[name] = limit * uniform
            else:
                found[name] = (1 + limit) ** uniform
        return {name: value if name == "translate" else value[:, 0] for name, value in found.items()}

    def change(self, images: Tensor, parts: dict[str, Tensor]) -> Tensor:
        values = cast(dict[str, Any], self.values(parts))
        return transform(images, **values, padding=self.padding)


def transform(
    images: Tensor,
    translate: Tensor | None = None,
    angle: Tensor | None = None,
    scale: Tensor | None = None,
    brightness: Tensor | None = None,
    contrast: Tensor | None = None,
    padding: Padding = "border",
) -> Tensor:
    """Move, turn, enlarge and light images, differentiably; values are not clamped.

    Args:
        images: (B, C, H, W).
        translate: (B, 2), pixels to the right and down.
        angle: (B,), degrees, clockwise, about the middle.
        scale: (B,), factor of the sides, about the middle.
        brightness: (B,), factor of the image.
        contrast: (B,), factor of the distance from the mean grey.
        padding: what is beyond the border.

    Returns:
        (B, C, H, W).
    """
    if translate is not None or angle is not None or scale is not None:
        grid = F.affine_grid(_inverse(images, translate, angle, scale), list(images.shape), align_corners=False)
        images = F.grid_sample(images, grid, "bilinear", padding, align_corners=False)
    if brightness is not None:
        images = brightness[:, None, None, None] * images
    if contrast is not None:
        grey = images.new_tensor(GREY if images.shape[1] == 3 else [1 / images.shape[1]] * images.shape[1])
        mean = (grey[:, None, None] * images).sum(1, keepdim=True).mean((2, 3), keepdim=True)
        images = mean + contrast[:, None, None, None] * (images - mean)
    return images


GREY = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in grey."""


def _inverse(images: Tensor, translate: Tensor | None, angle: Tensor | None, scale: Tensor | None) -> Tensor:
    """Return the maps (B, 2, 3) from places in the result to those in the images, both in [-1, 1]."""
    height, width = images.shape[-2:]
    zero = images.new_zeros(len(images))
    right, down = (zero, zero) if translate is None else translate.unbind(1)
    turn, size = zero if angle is None else angle * pi / 180, zero + 1 if scale is None else scale
    cos, sin = turn.cos() / size, turn.sin() / size
    first = [cos, sin * height / width, -2 * (cos * right + sin * down) / width]
    second = [-sin * width / height, cos, 2 * (sin * right - cos * down) / height]
    return torch.stack([torch.stack(first, 1), torch.stack(second, 1)], 1)
