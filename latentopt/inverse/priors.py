"""What is known of latents beforehand: where they may be, and what unlikely ones cost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from latentopt import sets
from latentopt._deprecated import old_names
from latentopt.errors import nonnegative, positive
from latentopt.networks.generator import Generator
from latentopt.networks.latents import Around, Spheres


class Prior(ABC):
    """Knowledge of a generator's latents."""

    @abstractmethod
    def feasible(self, generator: Generator) -> sets.FeasibleSet:
        """Where latents may be, and where random starts come from."""

    def penalty(self) -> Callable[[Tensor], Tensor] | None:
        """What is added to the loss, (B, *latent_shape) to (B,); None: nothing."""
        return None

    def penalty_of(self, generator: Generator) -> Callable[[Tensor], Tensor] | None:
        """`penalty`, where it depends on the distribution of the generator's latents."""
        return self.penalty()


@dataclass(frozen=True)
class Unconstrained(Prior):
    """Nothing is known."""

    def feasible(self, generator: Generator) -> sets.FeasibleSet:
        return latent_space(generator, generator.start_scale)


@dataclass(frozen=True)
class GaussianPrior(Prior):
    """Latents are standard normal: ``weight * ||z||^2`` is added to the loss (Bora et al. 2017, arXiv 1703.03208).

    Where the generator has ``latents`` of its own, z is what lies between a latent and their mean, each value divided
    by its standard deviation.

    Args:
        weight: >= 0, in units of the loss. With noise of standard deviation s on each of m measurements and a mean
            squared error, the most probable latent has ``weight = s^2 / m``.
    """

    weight: float = 0.001

    def __post_init__(self) -> None:
        nonnegative("GaussianPrior.weight", self.weight)

    def feasible(self, generator: Generator) -> sets.FeasibleSet:
        return latent_space(generator, generator.start_scale)

    def penalty(self) -> Callable[[Tensor], Tensor] | None:
        return SquaredNorm(self.weight)

    def penalty_of(self, generator: Generator) -> Callable[[Tensor], Tensor] | None:
        own = generator.distribution
        return SquaredNorm(self.weight) if own.source is None else SquaredNorm(self.weight, own.mean, own.scale)


@dataclass(frozen=True)
class SpherePrior(Prior):
    """Latents lie on the sphere of radius sqrt(n), close to which n normal numbers lie (Menon et al. 2020, PULSE).

    Each of several latents lies on a sphere of its own. Where the generator has ``latents`` of its own, a sphere is
    around their mean, as far as they lie from it (root of the mean square).
    """

    def feasible(self, generator: Generator) -> sets.FeasibleSet:
        sizes = [prod(shape) for shape in generator.part_shapes.values()] or [prod(generator.latent_shape)]
        if generator.distribution.source is None and len(sizes) == 1:
            return sets.Sphere(sizes[0] ** 0.5)
        return Spheres.around(generator.distribution, sizes)


@dataclass(frozen=True)
class BoxPrior(Prior):
    """No latent value is further than ``width`` > 0 from 0 (Lipton and Tripathi 2017, arXiv 1702.04782, clip at 1).

    Where the generator has ``latents`` of its own: further than so many standard deviations from its mean.
    """

    width: float = 3.0

    def __post_init__(self) -> None:
        positive("BoxPrior.width", self.width)

    def feasible(self, generator: Generator) -> sets.FeasibleSet:
        own = generator.distribution
        if own.source is None:
            return sets.Box(-self.width, self.width)
        return sets.Box((own.mean - self.width * own.scale)[None], (own.mean + self.width * own.scale)[None])


def latent_space(generator: Generator, scale: float) -> sets.FeasibleSet:
    """The whole space; random points are latents, ``scale`` times as far from their mean."""
    own = generator.distribution
    return sets.Free(scale) if own.source is None else Around(scale, latents=own)


@dataclass(frozen=True)
class SquaredNorm:
    """``weight * ||(x - mean) / scale||^2`` of each sample, a sum of squares."""

    weight: float
    mean: float | Tensor = 0.0  # or (*shape)
    scale: float | Tensor = 1.0

    def __call__(self, x: Tensor) -> Tensor:
        return self.residual(x).square().sum(1)

    def residual(self, x: Tensor) -> Tensor:
        """(B, n), whose squares sum to the penalty."""
        mean, scale = (torch.as_tensor(value).to(x) for value in (self.mean, self.scale))
        return self.weight**0.5 * ((x - mean) / scale).flatten(1)


__getattr__ = old_names(__name__)
