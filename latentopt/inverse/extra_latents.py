"""Generators with further parts of latents, which change the images, or which the objective reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from latentopt.errors import InputError
from latentopt.networks.generator import Generator
from latentopt.networks.latents import Latents

LATENTS = "latents"
"""Name of the generator's own latents, if they have none."""


class ExtraLatents(nn.Module):
    """A generator with further parts of latents.

    Args:
        generator: the generator.
        extra: names of the further parts.
    """

    def __init__(self, generator: Generator, extra: Sequence[str]) -> None:
        super().__init__()
        self.generator, self.extra = generator.with_module(generator.module), tuple(extra)
        self.generator.conditions = {}

    def change(self, images: Tensor, parts: dict[str, Tensor]) -> Tensor:
        """Return the images (B, ...) of further parts (B, *shape) by name: as they are."""
        return images

    def forward(self, **named: Any) -> Tensor:
        names = self.generator.part_shapes or (LATENTS,)
        own = {name: named.pop(name) for name in names}
        parts = {name: named.pop(name) for name in self.extra}
        z = self.generator.join(own) if self.generator.part_shapes else own[LATENTS]
        return self.change((self.generator.given(**named) if named else self.generator)(z), parts)


def with_parts(
    generator: Generator,
    module: ExtraLatents,
    shapes: Mapping[str, tuple[int, ...]],
    scales: Mapping[str, float] | None = None,
) -> Generator:
    """Return the generator of a module that takes further parts of latents, normal numbers.

    Args:
        generator: the generator within the module.
        module: the module.
        shapes: shapes of the further parts by name.
        scales: their standard deviations; 1 where there is none.

    Raises:
        InputError: the generator has parts of these names.
    """
    own = generator.part_shapes or {LATENTS: generator.latent_shape}
    if taken := set(own) & set(shapes):
        raise InputError("generator", f"latents of other names than {', '.join(shapes)}", ", ".join(sorted(taken)))
    source, scales = generator.distribution, scales or {}
    scale = torch.cat([torch.full((prod(shape),), scales.get(name, 1.0)) for name, shape in shapes.items()])
    wider = Generator(
        module,
        latent_shape={**own, **shapes},
        start_scale=generator.start_scale,
        latents=None if source.source is None and bool((scale == 1).all()) else _WithNormal(source, scale),
    )
    wider.space = ", ".join([generator.space, *shapes])
    return wider.given(**generator.conditions)


@dataclass(frozen=True, eq=False)
class _WithNormal:
    """Latents of a distribution, each as one vector, followed by normal numbers of mean 0."""

    own: Latents
    deviations: Tensor  # (count,), of the normal numbers, on the CPU

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        z = self.own.draw(count, generator).flatten(1)
        drawn = torch.randn(count, len(self.deviations), generator=generator, device=generator.device).to(z)
        return torch.cat([z, drawn * self.deviations.to(z)], 1)

    @property
    def mean(self) -> Tensor:
        return torch.cat([self.own.mean.flatten(), self.own.mean.new_zeros(len(self.deviations))])

    @property
    def scale(self) -> Tensor:
        return torch.cat([self.own.scale.flatten(), self.deviations.to(self.own.scale)])
