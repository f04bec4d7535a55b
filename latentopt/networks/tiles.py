"""Decoding in tiles: an image piece by piece, each computed again for its gradient, equal to the whole to rounding."""

from __future__ import annotations

from math import ceil

import torch
from torch import Tensor, nn

from latentopt.errors import InputError
from latentopt.networks.checkpointing import checkpoint

SIDE = 41
"""Height and width of the latents on which a receptive field is measured."""


class Tiled(nn.Module):
    """A decoder that computes its images in overlapping tiles.

    Layers that see the whole image, as a group norm does, run once on all latents where the decoder tells them apart by
    a method ``halves()``, which returns these layers and the ones after them.

    Args:
        module: decoder from latents (B, C, h, w) to images (B, C', H, W), of any size.
        tile: greatest height and width of a tile in pixels, its overlap with the others included.
        latents: some latents (B, C, h, w) of it.

    Raises:
        InputError: the tile is not larger than the receptive field, or this is the whole image.
    """

    any_size = True

    def __init__(self, module: nn.Module, tile: int, latents: Tensor) -> None:
        super().__init__()
        halves = getattr(module, "halves", None)
        self.head, self.tail = halves() if halves else (nn.Identity(), module)
        with torch.no_grad():
            channels = self.head(latents[:1]).shape[1]
            self.margin, self.scale = receptive_field(self.tail, latents.new_zeros(1, channels, SIDE, SIDE))
        self.core = tile // self.scale - 2 * self.margin  # of a tile, without its overlap, in latents
        if self.core < 1:
            expected = f"more than {2 * self.margin * self.scale} pixels, the receptive field of the decoder"
            raise InputError("tile", expected, tile)

    def forward(self, z: Tensor) -> Tensor:
        x = self.head(z)
        height, width = x.shape[-2:]
        rows = list[Tensor]()
        for top in range(0, height, self.core):
            rows.append(torch.cat([self._tile(x, top, left) for left in range(0, width, self.core)], -1))
        return torch.cat(rows, -2)

    def _tile(self, x: Tensor, top: int, left: int) -> Tensor:
        """Return the image of the latents from ``top`` and ``left`` on."""
        begins = [max(start - self.margin, 0) for start in (top, left)]
        ends = [start + self.core + self.margin for start in (top, left)]
        image = checkpoint(self.tail, x[..., begins[0] : ends[0], begins[1] : ends[1]])
        inner = [(start - begin) * self.scale for start, begin in zip((top, left), begins, strict=True)]
        size = self.core * self.scale
        return image[..., inner[0] : inner[0] + size, inner[1] : inner[1] + size]


def receptive_field(module: nn.Module, x: Tensor) -> tuple[int, int]:
    """Return how many latents away from its own a pixel depends on, and the pixels of one latent.

    A latent that is not a number shows it: so are all pixels that depend on it.

    Args:
        module: decoder of images (1, C', H, W).
        x: latents (1, C, h, w), h = w odd.

    Raises:
        InputError: some pixel depends on all latents.
    """
    side, middle = x.shape[-1], x.shape[-1] // 2
    x = x.clone()
    x[..., middle, middle] = torch.nan
    reached = module(x).isnan().flatten(0, 1).any(0)
    scale = reached.shape[-1] // side
    indices = reached.any(0).nonzero()[:, 0]
    before, after = middle * scale - int(indices.min()), int(indices.max()) + 1 - (middle + 1) * scale
    margin = ceil(max(before, after, 0) / scale)
    if margin >= middle:
        got = "a network whose pixels depend on all latents (a group norm, or attention)"
        raise InputError("tile", "none for this generator", got)
    return margin, scale
