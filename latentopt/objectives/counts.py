"""Noise of counts: Poisson, and Poisson with Gaussian read-out noise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import log

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentopt.arguments import checked
from latentopt.errors import nonnegative, positive
from latentopt.noise import draw_by_value
from latentopt.objectives.likelihoods import NoiseModel, intensities, require_intensities

LEAST_RATE = 1e-3
"""Expected counts below which the logarithm goes on as a parabola, so that a count costs a finite number of nats."""


@checked
@dataclass(frozen=True)
class PoissonNoise(NoiseModel):
    """Counts of photons, divided by the number that a measurement of 1 is expected to give.

    So measurements keep their units: ``y = Poisson(photons * x) / photons``. Counts from a camera are to be divided by
    ``photons``. Below `LEAST_RATE` expected photons the logarithm of the likelihood goes on as a parabola.

    Args:
        photons: expected number at a measurement of 1, > 0.

    Raises:
        InputError: the number is not positive.

    >>> import torch
    >>> PoissonNoise(5)(torch.full((1, 1), 0.4), torch.zeros(1, 1)).tolist()
    [2.0]
    """

    photons: float

    def __post_init__(self) -> None:
        positive("PoissonNoise.photons", self.photons)

    def deviance(self, prediction: Tensor, target: Tensor) -> Tensor:
        return _count_deviance(self.photons * prediction, self.photons * target)

    def score(self, prediction: Tensor, target: Tensor) -> Tensor:
        return self.photons * _count_score(self.photons * prediction, self.photons * target)

    def information(self, prediction: Tensor, target: Tensor) -> Tensor:
        return self.photons**2 / (self.photons * prediction).clamp_min(LEAST_RATE)

    def draw(self, measurement: Tensor, seed: int) -> Tensor:
        rate = self.photons * intensities("PoissonNoise", measurement)
        return draw_by_value(rate, seed, lambda rate, rng: rng.poisson(rate)) / self.photons

    def discrepancy(self, prediction: Tensor, target: Tensor) -> Tensor:
        return _expected_deviance(self.photons * prediction).flatten(1).sum(1)

    def require(self, measurement: Tensor) -> None:
        require_intensities("counts", measurement)

    def greatest(self) -> float:
        return 16.0 * max(1.0, 1 / self.photons)


@checked
@dataclass(frozen=True)
class PoissonGaussianNoise(NoiseModel):
    """Counts of photons with Gaussian read-out noise, divided as those of `PoissonNoise`.

    The likelihood is that of the shifted Poisson approximation, of the same mean and variance: ``photons y +
    (photons sigma)^2`` is taken for a count (Snyder et al. 1993). Draws are exact.

    Args:
        photons: expected number at a measurement of 1, > 0.
        sigma: standard deviation of the read-out noise, >= 0, in the measurements' units.

    Raises:
        InputError: an argument is not as described.
    """

    photons: float
    sigma: float

    def __post_init__(self) -> None:
        positive("PoissonGaussianNoise.photons", self.photons)
        nonnegative("PoissonGaussianNoise.sigma", self.sigma)

    @property
    def _shift(self) -> float:
        return (self.photons * self.sigma) ** 2

    def _rate(self, prediction: Tensor) -> Tensor:
        return self.photons * prediction + self._shift

    def _count(self, target: Tensor) -> Tensor:
        return (self.photons * target + self._shift).clamp_min(0)

    def deviance(self, prediction: Tensor, target: Tensor) -> Tensor:
        return _count_deviance(self._rate(prediction), self._count(target))

    def score(self, prediction: Tensor, target: Tensor) -> Tensor:
        return self.photons * _count_score(self._rate(prediction), self._count(target))

    def information(self, prediction: Tensor, target: Tensor) -> Tensor:
        return self.photons**2 / self._rate(prediction).clamp_min(LEAST_RATE)

    def draw(self, measurement: Tensor, seed: int) -> Tensor:
        rate = self.photons * intensities("PoissonGaussianNoise", measurement)

        def counts(rate: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
            return rng.poisson(rate) / self.photons + self.sigma * rng.standard_normal(rate.shape)

        return draw_by_value(rate, seed, counts)

    def discrepancy(self, prediction: Tensor, target: Tensor) -> Tensor:
        seen = (prediction != 0) | (target != 0)
        return torch.where(seen, _expected_deviance(self._rate(prediction)), 0.0).flatten(1).sum(1)

    def greatest(self) -> float:
        return 16.0 * max(1.0, 1 / self.photons)


def _count_deviance(rate: Tensor, count: Tensor) -> Tensor:
    """Return ``rate - count + count log(count / rate)``, continued below `LEAST_RATE`."""
    few, some = rate < LEAST_RATE, count > 0
    above, below = torch.where(few, LEAST_RATE, rate), torch.where(few, rate / LEAST_RATE - 1, 0.0)
    one = torch.where(some, count, 1.0)
    excess = (above - one) / one
    near = excess.abs() < 0.5  # there the terms of the sum cancel
    logarithm = torch.where(near, torch.log1p(torch.where(near, excess, 0.0)), (above / one).log())
    loss = torch.where(some, one * (excess - logarithm), above)
    rest = torch.where(few, torch.where(rate < 0, -rate, rate) - LEAST_RATE, 0.0)
    return loss + rest - count * (below - below.square() / 2)


def _count_score(rate: Tensor, count: Tensor) -> Tensor:
    """Return the derivative of `_count_deviance` in the rate."""
    slope = torch.where(rate < LEAST_RATE, (2 - rate / LEAST_RATE) / LEAST_RATE, 1 / rate.clamp_min(LEAST_RATE))
    return torch.where(rate < 0, -1.0, 1.0) - count * slope


def _expected_deviance(rate: Tensor) -> Tensor:
    """Return the mean of `_count_deviance` of counts with these rates, interpolated to a relative 1e-4."""
    grid, values = _deviance_table()
    grid, values = grid.to(rate), values.to(rate)
    position = (rate.clamp(grid[0].exp(), grid[-1].exp()).log() - grid[0]) / (grid[1] - grid[0])
    index = position.floor().long().clamp(0, len(grid) - 2)
    table = torch.lerp(values[index], values[index + 1], position - index)
    tail = 0.5 + 1 / (12 * rate.clamp_min(1)) + 1 / (12 * rate.clamp_min(1).square())
    small = -torch.xlogy(rate.clamp_min(0), rate.clamp_min(0))
    return torch.where(rate < grid[0].exp(), small, torch.where(rate > grid[-1].exp(), tail, table))


@cache
def _deviance_table() -> tuple[Tensor, Tensor]:
    """Return logarithms of rates from 1e-4 to 60, and the expected deviances there, in double precision."""
    grid = torch.linspace(log(1e-4), log(60.0), 1024, dtype=torch.float64, device="cpu")
    rate, count = grid.exp()[:, None], torch.arange(200.0, dtype=torch.float64, device="cpu")
    probability = (torch.xlogy(count, rate) - rate - torch.lgamma(count + 1)).exp()
    deviance = rate - count + torch.xlogy(count, count) - torch.xlogy(count, rate)
    return grid, (probability * deviance).sum(1)
