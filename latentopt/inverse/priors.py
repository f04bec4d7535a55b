"""Priors: what is known of latents beforehand, as a feasible set and a penalty."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from torch import Tensor

from latentopt import sets
from latentopt._deprecated import old_names
from latentopt.batch_math import cpu_tensor
from latentopt.errors import nonnegative, positive
from latentopt.inverse.noise_maps import Autocorrelation, NormalizedMaps, part_places
from latentopt.networks.generator import Generator
from latentopt.networks.latents import Around, Spheres


class Prior(ABC):
    """Knowledge of a generator's latents."""

    @abstractmethod
    def feasible(self, generator: Generator) -> sets.FeasibleSet:
        """Return the feasible set of a generator's latents, which also draws random starts."""

    def penalty(self) -> Callable[[Tensor], Tensor] | None:
        """Return the penalty that is added to the loss, (B, *latent_shape) to (B,); None: there is none."""
        return None

    def penalty_of(self, generator: Generator) -> Callable[[Tensor], Tensor] | None:
        """Return the `penalty` for a generator, where it depends on the distribution of its latents."""
        return self.penalty()


@dataclass(frozen=True)
class Unconstrained(Prior):
    """No knowledge: any latent will do."""

    def feasible(self, generator: Generator) -> sets.FeasibleSet:
        return latent_space(generator, generator.start_scale)


@dataclass(frozen=True)
class GaussianPrior(Prior):
    """Standard normal latents: ``weight * ||z||^2`` is added to the loss (Bora et al. 2017, arXiv 1703.03208).

    Where the generator has ``latents`` of its own, z is the difference of a latent from their mean, divided by their
    standard deviation.

    Args:
        weight: >= 0, in units of the loss. With noise of standard deviation s on each of m measurements and a mean
            squared error, ``weight = s^2 / m`` gives the most probable latent.

    Raises:
        InputError: the weight is negative or not finite.
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
class LatentPrior(Prior):
    """The latents' own distribution: their negative log density in nats, up to a constant, is added to the loss.

    Beside a noise model as the loss (`latentopt.objectives.NoiseModel`) the optimum is the most probable latent (MAP),
    and there is no weight to choose. Where the generator has ``latents`` of its own, they are taken for normal, with
    the mean and the standard deviation of each value.
    """

    def feasible(self, generator: Generator) -> sets.FeasibleSet:
        return latent_space(generator, generator.start_scale)

    def penalty_of(self, generator: Generator) -> Callable[[Tensor], Tensor] | None:
        return GaussianPrior(weight=0.5).penalty_of(generator)


@dataclass(frozen=True)
class SpherePrior(Prior):
    """Latents on the sphere of radius sqrt(n), close to which n normal numbers lie (Menon et al. 2020, PULSE).

    Each of several latents lies on a sphere of its own. Where the generator has ``latents`` of its own, the centre of
    the sphere is their mean, and its radius the root of their mean squared distance from it.
    """

    def feasible(self, generator: Generator) -> sets.FeasibleSet:
        sizes = [prod(shape) for shape in generator.part_shapes.values()] or [prod(generator.latent_shape)]
        if generator.distribution.source is None and len(sizes) == 1:
            return sets.Sphere(sizes[0] ** 0.5)
        return Spheres.around(generator.distribution, sizes)


@dataclass(frozen=True)
class BoxPrior(Prior):
    """Latent values in [-width, width] (Lipton and Tripathi 2017, arXiv 1702.04782, clip at 1).

    Args:
        width: greatest absolute value, > 0. Where the generator has ``latents`` of its own, greatest number of standard
            deviations from their mean.

    Raises:
        InputError: the width is not a positive number.
    """

    width: float = 3.0

    def __post_init__(self) -> None:
        positive("BoxPrior.width", self.width)

    def feasible(self, generator: Generator) -> sets.FeasibleSet:
        own = generator.distribution
        if own.source is None:
            return sets.Box(-self.width, self.width)
        return sets.Box((own.mean - self.width * own.scale)[None], (own.mean + self.width * own.scale)[None])


@dataclass(frozen=True)
class NoiseMapPrior(Prior):
    """Noise maps that are noise: uncorrelated, of mean 0 and variance 1; the other latents are free.

    ``weight`` times the squared autocorrelation of each map with itself, moved by a pixel to the right and down, is
    added to the loss, at its own size and at each half of it down to 8 pixels. After each step the maps are normalised.

    Args:
        weight: >= 0, in units of the loss. The paper's 1e5 goes with LPIPS.
    """

    weight: float = 1e5

    def __post_init__(self) -> None:
        nonnegative("NoiseMapPrior.weight", self.weight)

    def feasible(self, generator: Generator) -> sets.FeasibleSet:
        maps, others = part_places(generator)
        return NormalizedMaps(generator.start_scale, latents=generator.distribution, maps=maps, others=others)

    def penalty_of(self, generator: Generator) -> Callable[[Tensor], Tensor] | None:
        return Autocorrelation(self.weight, part_places(generator)[0])


def latent_space(generator: Generator, scale: float) -> sets.FeasibleSet:
    """Return the whole space of latents, whose random points are latents of the generator.

    Args:
        generator: the generator.
        scale: factor of their distance from their mean.
    """
    own = generator.distribution
    return sets.Free(scale) if own.source is None else Around(scale, latents=own)


@dataclass(frozen=True)
class SquaredNorm:
    """The penalty ``weight * ||(x - mean) / scale||^2`` of each sample, a sum of squares.

    Args:
        weight: >= 0.
        mean: a number, or (*shape).
        scale: a number, or (*shape), > 0.
    """

    weight: float
    mean: float | Tensor = 0.0
    scale: float | Tensor = 1.0

    def __call__(self, x: Tensor) -> Tensor:
        return self.residual(x).square().sum(1)

    def residual(self, x: Tensor) -> Tensor:
        """Return the residuals (B, n), whose squares sum to the penalty."""
        mean, scale = (cpu_tensor(value).to(x) for value in (self.mean, self.scale))
        return self.weight**0.5 * ((x - mean) / scale).flatten(1)


__getattr__ = old_names(__name__)
