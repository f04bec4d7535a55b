"""Noise maps as latents, for the prior of StyleGAN2's projector (Karras et al. 2020, arXiv 1912.04958, appendix D)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F

from latentopt.errors import InputError
from latentopt.networks.generator import Generator
from latentopt.networks.latents import Around
from latentopt.noise import Noise

PREFIX = "noise"
"""Begin of the names of latents that are noise maps."""
SMALLEST = 8
"""Side of the smallest map whose autocorrelation counts, in pixels."""
Place = tuple[int, tuple[int, ...]]  # first index in the vector of latents, and shape (..., H, W)


def part_places(generator: Generator) -> tuple[list[Place], list[Place]]:
    """Return where a generator's noise maps are, and where its other latents.

    Noise maps are latents of two sides at least whose names begin with ``noise``.

    Raises:
        InputError: it has none.
    """
    maps, others, start = list[Place](), list[Place](), 0
    for name, shape in generator.part_shapes.items():
        (maps if name.startswith(PREFIX) and len(shape) >= 2 else others).append((start, tuple(shape)))
        start += prod(shape)
    if not maps:
        raise InputError("prior", "a generator whose latents include noise maps (in_space(..., noise=True))", "none")
    return maps, others


@dataclass(frozen=True)
class Autocorrelation:
    """The penalty of `NoiseMapPrior`, latents (B, n) to (B,)."""

    weight: float
    places: Sequence[Place]

    def __call__(self, z: Tensor) -> Tensor:
        total = z.new_zeros(len(z))
        for start, shape in self.places:
            maps = z[:, start : start + prod(shape)].reshape(len(z), -1, *shape[-2:])
            while True:
                for axis in (2, 3):
                    total = total + (maps * maps.roll(1, axis)).mean((2, 3)).square().sum(1)
                if min(maps.shape[-2:]) <= SMALLEST:
                    break
                maps = F.avg_pool2d(maps, 2)
        return self.weight * total


@dataclass(frozen=True, eq=False)
class NormalizedMaps(Around):
    """The latents whose noise maps have mean 0 and variance 1 each; not convex."""

    maps: Sequence[Place] = field(kw_only=True)
    others: Sequence[Place] = field(kw_only=True)

    def project(self, x: Tensor) -> Tensor:
        x = x.clone()
        for start, shape in self.maps:
            flat = x[:, start : start + prod(shape)].unflatten(1, (-1, shape[-2] * shape[-1]))
            std, mean = torch.std_mean(flat, 2, keepdim=True)
            x[:, start : start + prod(shape)] = ((flat - mean) / std.clamp_min(torch.finfo(x.dtype).tiny)).flatten(1)
        return x

    def sample(self, like: Tensor, noise: Noise) -> Tensor:
        return self.project(super().sample(like, noise))

    def radius(self, like: Tensor) -> Tensor:
        scales = [self.latents.scale[start : start + prod(shape)] for start, shape in self.others]
        return self.scale * torch.cat(scales).norm().to(like)

    def jitter_scale(self, like: Tensor) -> Tensor:
        values = torch.zeros(self.latents.shape, device="cpu")  # none on maps
        for start, shape in self.others:
            scale = self.latents.scale[start : start + prod(shape)].reshape(shape)
            values[start : start + prod(shape)] = scale.norm(dim=-1).mean()
        return values[None].to(like)
