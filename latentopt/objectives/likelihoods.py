"""Noise models: losses that are negative log-likelihoods of measurements, in nats, and draws of the same noise.

A loss is half the deviance (McCullagh and Nelder 1989, Generalized Linear Models, section 2.3): the negative
log-likelihood less that of the prediction that fits the measurement best. So it is 0 at a perfect fit.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from math import inf, log

import torch
from torch import Tensor

from latentopt.arguments import checked
from latentopt.batch_math import by_row
from latentopt.errors import InputError, positive
from latentopt.noise import draw_by_value, normal_by_value
from latentopt.objectives.base import Loss

LEAST_VARIANCE = 1e-12
"""Variance that is added to one estimated from residuals, which may all be 0."""
ROUNDING = 1e-6
"""Distance by which rounding may take intensities below 0."""


class NoiseModel(Loss):
    """The noise of measurements: its negative log-likelihood, as a loss in nats, and its random numbers.

    The loss is summed over the measurements of a sample, less its value at the prediction that fits best. A prior in
    nats (`latentopt.inverse.priors.LatentPrior`) has weight 1 beside it.
    """

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        require_alike(prediction, target)
        return self.deviance(prediction, target).flatten(1).sum(1)

    @abstractmethod
    def deviance(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each measurement, (B, ...), in nats; differentiable."""

    @abstractmethod
    def score(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the derivative of the loss in each measurement's prediction, (B, ...)."""

    @abstractmethod
    def information(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the Fisher information of each measurement, (B, ...): the mean curvature of the loss.

        Args:
            prediction: measurements (B, ...) without noise.
            target: noisy measurements (B, ...), from which an unknown level is estimated.
        """

    @abstractmethod
    def draw(self, measurement: Tensor, seed: int) -> Tensor:
        """Draw noisy measurements.

        The noise of a sample depends on the seed and the sample's own values alone, so it is the same in any batch.

        Args:
            measurement: measurements (B, ...) without noise.
            seed: of the random numbers, >= 0.

        Returns:
            (B, ...).

        Raises:
            InputError: measurements cannot have such noise, or its level is not known.
        """

    @abstractmethod
    def discrepancy(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the expected loss (B,) at the truth, were it the prediction, for Morozov's discrepancy principle.

        Measurements that are 0 in both, as a mask's hidden pixels, count nothing.

        Args:
            prediction: measurements (B, ...) without noise.
            target: noisy measurements (B, ...).

        Raises:
            InputError: the level is not known.
        """

    def require(self, measurement: Tensor) -> None:
        """Raise `InputError` unless noisy measurements (B, ...) are possible."""

    def greatest(self) -> float:
        """Return a value that noisy measurements of images in [0, 1] hardly exceed."""
        return 16.0

    def residual(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return residuals (B, m) that linearise the loss for Fisher scoring.

        Their sum of squares has the loss's gradient, and the Fisher information as its Gauss-Newton curvature.
        """
        mean = prediction.detach()
        score, root = self.score(mean, target), (self.information(mean, target) / 2).sqrt()
        # the score divided by its root weight; 0 where nothing was measured
        value = torch.where(root > 0, score / (2 * root).where(root > 0, 1.0), 0.0)
        return (value.detach() + root.detach() * (prediction - mean)).flatten(1)


@checked
@dataclass(frozen=True)
class GaussianNoise(NoiseModel):
    """Gaussian noise of one level.

    Args:
        sigma: standard deviation, > 0, in the measurements' units. None: unknown, and estimated for each sample as the
            root mean square of the residuals at each prediction (the level is profiled out); there must be more
            measurements than latents.

    Raises:
        InputError: the level is not a positive number.

    >>> import torch
    >>> GaussianNoise(0.5)(torch.zeros(1, 2), torch.ones(1, 2)).tolist()
    [4.0]
    """

    sigma: float | None = None

    def __post_init__(self) -> None:
        if self.sigma is not None:
            positive("GaussianNoise.sigma", self.sigma)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        if self.sigma is not None:
            return super().__call__(prediction, target)
        require_alike(prediction, target)
        squares = (prediction - target).square().flatten(1).sum(1)
        count = count_measured(prediction, target).clamp_min(1)
        return count / 2 * torch.log1p(squares / (count * LEAST_VARIANCE))

    def deviance(self, prediction: Tensor, target: Tensor) -> Tensor:
        if self.sigma is None:
            raise InputError("GaussianNoise.sigma", "a number > 0, for the loss of each measurement by itself", None)
        return ((prediction - target) / self.sigma).square() / 2

    def score(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target) * self.information(prediction, target)

    def information(self, prediction: Tensor, target: Tensor) -> Tensor:
        if self.sigma is not None:
            return torch.full_like(prediction, self.sigma**-2)
        squares = (prediction - target).square().flatten(1).sum(1)
        variance = squares / count_measured(prediction, target).clamp_min(1) + LEAST_VARIANCE
        return (1 / by_row(variance, prediction)).expand_as(prediction)

    def draw(self, measurement: Tensor, seed: int) -> Tensor:
        return measurement + self._level() * normal_by_value(measurement.detach(), seed)

    def discrepancy(self, prediction: Tensor, target: Tensor) -> Tensor:
        self._level()
        return count_measured(prediction, target) / 2

    def _level(self) -> float:
        if self.sigma is None:
            raise InputError("GaussianNoise.sigma", "a number > 0, to draw noise or to stop by discrepancy", None)
        return self.sigma


@checked
@dataclass(frozen=True)
class StudentNoise(NoiseModel):
    """Student's t noise: heavy tails, so that outliers count little (Lange et al. 1989).

    Args:
        scale: of the noise without outliers, > 0, in the measurements' units.
        dof: degrees of freedom, > 0; the fewer, the heavier the tails.

    Raises:
        InputError: an argument is not a positive number.

    >>> import torch
    >>> StudentNoise(0.1, dof=1)(torch.zeros(1, 1), torch.full((1, 1), 0.1)).exp()
    tensor([2.])
    """

    scale: float
    dof: float = 4.0

    def __post_init__(self) -> None:
        positive("StudentNoise.scale", self.scale)
        positive("StudentNoise.dof", self.dof)

    def deviance(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (self.dof + 1) / 2 * torch.log1p(((prediction - target) / self.scale).square() / self.dof)

    def score(self, prediction: Tensor, target: Tensor) -> Tensor:
        difference = prediction - target
        return (self.dof + 1) * difference / (self.dof * self.scale**2 + difference.square())

    def information(self, prediction: Tensor, target: Tensor) -> Tensor:
        return torch.full_like(prediction, (self.dof + 1) / (self.dof + 3) / self.scale**2)

    def draw(self, measurement: Tensor, seed: int) -> Tensor:
        return measurement + draw_by_value(
            measurement, seed, lambda sample, rng: self.scale * rng.standard_t(self.dof, sample.shape)
        )

    def discrepancy(self, prediction: Tensor, target: Tensor) -> Tensor:
        half = self.dof / 2
        return (half + 0.5) * (digamma(half + 0.5) - digamma(half)) * count_measured(prediction, target)

    def greatest(self) -> float:
        return inf


@checked
@dataclass(frozen=True)
class MultiplicativeNoise(NoiseModel):
    """Speckle, as of radar and ultrasound: measurements are multiplied by gamma noise of mean 1 (Goodman 1976).

    Args:
        looks: number of independent speckles that a measurement averages, > 0; the noise's variance is 1 / looks.
        floor: measurement, > 0, below which all count as equally dark, as speckle tells nothing of 0.

    Raises:
        InputError: an argument is not a positive number.

    >>> import torch
    >>> MultiplicativeNoise(4)(torch.ones(1, 1), torch.ones(1, 1)).tolist()
    [0.0]
    """

    looks: float
    floor: float = 0.01

    def __post_init__(self) -> None:
        positive("MultiplicativeNoise.looks", self.looks)
        positive("MultiplicativeNoise.floor", self.floor)

    def deviance(self, prediction: Tensor, target: Tensor) -> Tensor:
        ratio = target.clamp_min(self.floor) / prediction.clamp_min(self.floor)
        dark = (self.floor - prediction).clamp_min(0) * self._slope(target)  # goes on straight, never downhill
        return self.looks * (ratio - 1 - ratio.log() + dark)

    def score(self, prediction: Tensor, target: Tensor) -> Tensor:
        mean = prediction.clamp_min(self.floor)
        bright = (mean - target.clamp_min(self.floor)) / mean.square()
        return self.looks * torch.where(prediction < self.floor, -self._slope(target), bright)

    def _slope(self, target: Tensor) -> Tensor:
        return (target - self.floor).clamp_min(0) / self.floor**2

    def information(self, prediction: Tensor, target: Tensor) -> Tensor:
        return self.looks / prediction.clamp_min(self.floor).square()

    def draw(self, measurement: Tensor, seed: int) -> Tensor:
        mean = intensities("MultiplicativeNoise", measurement)
        return draw_by_value(mean, seed, lambda mean, rng: mean * rng.gamma(self.looks, 1 / self.looks, mean.shape))

    def discrepancy(self, prediction: Tensor, target: Tensor) -> Tensor:
        bright = (prediction > self.floor).flatten(1).sum(1).to(prediction)
        return self.looks * (log(self.looks) - digamma(self.looks)) * bright

    def require(self, measurement: Tensor) -> None:
        require_intensities("intensities", measurement)

    def greatest(self) -> float:
        return 16.0 * max(1.0, 1 / self.looks)


def digamma(x: float) -> float:
    """Return the digamma function of a number > 0."""
    return float(torch.digamma(torch.tensor(x, dtype=torch.float64, device="cpu")))


def require_alike(prediction: Tensor, target: Tensor) -> None:
    if prediction.shape != target.shape:
        raise InputError("prediction", f"the target's shape {tuple(target.shape)}", tuple(prediction.shape))


def count_measured(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the number (B,) of measurements that are not 0 in both."""
    return ((prediction != 0) | (target != 0)).flatten(1).sum(1).to(prediction)


def intensities(name: str, measurement: Tensor) -> Tensor:
    """Return measurements clamped to 0 where rounding alone puts them below."""
    if bool((measurement < -ROUNDING).any()):
        expected = f"{name} of measurements >= 0; an operator with negative ones takes GaussianNoise"
        raise InputError("noise", expected, f"{float(measurement.min()):.4g}")
    return measurement.detach().clamp_min(0)


def require_intensities(kind: str, measurement: Tensor) -> None:
    if bool((measurement < 0).any()):
        raise InputError("target", f"{kind} >= 0, as the noise model has them", f"{float(measurement.min()):.4g}")
