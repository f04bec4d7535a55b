"""What is known of latents beforehand: where they may be, and what unlikely ones cost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from torch import Tensor

from latentopt import sets
from latentopt.errors import nonnegative, positive
from latentopt.generators import Generator


class Prior(ABC):
    """Knowledge of a generator's latents."""

    @abstractmethod
    def feasible(self, generator: Generator) -> sets.FeasibleSet:
        """Where latents may be, and where random starts come from."""

    def penalty(self) -> Callable[[Tensor], Tensor] | None:
        """What is added to the loss, (B, *latent_shape) to (B,); None: nothing."""
        return None


@dataclass(frozen=True)
class Anywhere(Prior):
    """Nothing is known."""

    def feasible(self, generator: Generator) -> sets.FeasibleSet:
        return sets.Free(generator.start_scale)


@dataclass(frozen=True)
class Gaussian(Prior):
    """Latents are standard normal: ``weight * ||z||^2`` is added to the loss (Bora et al. 2017, arXiv 1703.03208).

    Args:
        weight: >= 0, in units of the loss. With noise of standard deviation s on each of m measurements and a mean
            squared error, the most probable latent has ``weight = s^2 / m``.
    """

    weight: float = 0.001

    def __post_init__(self) -> None:
        nonnegative("Gaussian.weight", self.weight)

    def feasible(self, generator: Generator) -> sets.FeasibleSet:
        return sets.Free(generator.start_scale)

    def penalty(self) -> Callable[[Tensor], Tensor] | None:
        return SquaredNorm(self.weight)


@dataclass(frozen=True)
class Sphere(Prior):
    """Latents lie on the sphere of radius sqrt(n), close to which n normal numbers lie (Menon et al. 2020, PULSE)."""

    def feasible(self, generator: Generator) -> sets.FeasibleSet:
        return sets.Sphere(prod(generator.latent_shape) ** 0.5)


@dataclass(frozen=True)
class Box(Prior):
    """No latent value is further than ``width`` > 0 from 0 (Lipton and Tripathi 2017, arXiv 1702.04782, clip at 1)."""

    width: float = 3.0

    def __post_init__(self) -> None:
        positive("Box.width", self.width)

    def feasible(self, generator: Generator) -> sets.FeasibleSet:
        return sets.Box(-self.width, self.width)


@dataclass(frozen=True)
class SquaredNorm:
    """``weight * ||x||^2`` of each sample, a sum of squares."""

    weight: float

    def __call__(self, x: Tensor) -> Tensor:
        return self.residual(x).square().sum(1)

    def residual(self, x: Tensor) -> Tensor:
        """(B, n), whose squares sum to the penalty."""
        return self.weight**0.5 * x.flatten(1)
