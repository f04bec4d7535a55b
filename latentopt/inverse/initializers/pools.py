"""Starts from samples of the generator: those nearest to a measurement, or what regression on them says of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from latentopt.errors import nonnegative, positive
from latentopt.inverse.initializers.base import POOL_SEED, FittedInitializer, Initializer, around
from latentopt.inverse.problem import Reconstruction
from latentopt.networks.freezing import frozen
from latentopt.networks.generator import Generator

CHUNK, VALUES = 250, 2**22
"""Latents in a forward of the pool, and values of their images; one latent in any case."""


@dataclass(frozen=True)
class Nearest(Initializer):
    """The samples of a pool that are nearest to the measurement, the nearest first.

    It holds their measurements whole: of 2,000 measurements of 3 x 256 x 256 values 1.6 GB in single precision.

    Args:
        pool: samples, >= 1.
    """

    pool: int = 2000

    def __post_init__(self) -> None:
        positive("Nearest.pool", self.pool, integer=True)

    def fit(self, generator: Generator, operator: Callable[[Tensor], Tensor], seed: int) -> FittedInitializer:
        return self.fit_each(generator, [operator], seed)[0]

    def fit_each(
        self, generator: Generator, operators: Sequence[Callable[[Tensor], Tensor]], seed: int
    ) -> Sequence[FittedInitializer]:
        z = generator.latents(self.pool, seed + POOL_SEED)
        measurements = measured_each(generator, operators, z)
        return _once([_Neighbours(z, y, self.pool) for y in measurements])

    def restored(self, tensors: dict[str, Tensor]) -> FittedInitializer | None:
        return _Neighbours(**tensors, forwards=self.pool) if tensors.keys() == {"latents", "measurements"} else None


@dataclass(frozen=True)
class _Neighbours(FittedInitializer):
    latents: Tensor  # (pool, *latent_shape)
    measurements: Tensor  # (pool, m)
    forwards: int

    def __call__(self, problem: Reconstruction, restarts: int, seed: int, wider: float = 1.0) -> Tensor:
        count = min(restarts, len(self.latents))
        passed = min(int(restarts * (wider - 1)), len(self.latents) - count)  # those that were tried before
        nearest = distances(problem.measurement.flatten(1), self.measurements).topk(passed + count, 1, largest=False)
        return self.latents[nearest.indices[:, passed:].T]


@dataclass(frozen=True)
class Regression(Initializer):
    """What kernel ridge regression on a pool of samples predicts from the measurement, and points around it.

    The kernel is ``exp(-d^2 / (width median(d^2)))`` of the distance ``d`` between measurements, seen at `FEATURES` of
    their values where they have more.

    Args:
        pool: samples, >= 2.
        noise: standard deviation of the restarts but the first around the prediction, >= 0, as a multiple of the
            latents' own.
        width: > 0.
        ridge: added to the diagonal of the kernel matrix, > 0.
    """

    pool: int = 2000
    noise: float = 1.0
    width: float = 3.0
    ridge: float = 0.01

    def __post_init__(self) -> None:
        positive("Regression.pool", self.pool - 1, integer=True)
        nonnegative("Regression.noise", self.noise)
        positive("Regression.width", self.width)
        positive("Regression.ridge", self.ridge)

    def fit(self, generator: Generator, operator: Callable[[Tensor], Tensor], seed: int) -> FittedInitializer:
        return self.fit_each(generator, [operator], seed)[0]

    def fit_each(
        self, generator: Generator, operators: Sequence[Callable[[Tensor], Tensor]], seed: int
    ) -> Sequence[FittedInitializer]:
        z = generator.latents(self.pool, seed + POOL_SEED)
        chosen = list[Tensor]()

        def features(values: Tensor) -> Tensor:
            if not chosen:
                order = torch.randperm(values.shape[1], generator=torch.Generator().manual_seed(seed))
                chosen.append(order[:FEATURES].to(values.device))
            return values[:, chosen[0]]

        measurements = measured_each(generator, operators, z, features)
        return _once([self._fitted(z, chosen[0], y) for y in measurements])

    def _fitted(self, z: Tensor, chosen: Tensor, y: Tensor) -> Predictor:
        """The regression from measurements ``y`` (pool, features), the values ``chosen``, to the latents ``z``."""
        y = _wide(y)  # so that a batch starts where its samples alone do
        squares = torch.cdist(y, y, compute_mode="use_mm_for_euclid_dist").square()  # the same pool for every batch
        width = self.width * squares.median().clamp_min(torch.finfo(y.dtype).tiny)
        kernel = torch.exp(-squares / width)
        kernel.diagonal().add_(self.ridge)
        weights = torch.cholesky_solve(z.flatten(1).to(y), torch.linalg.cholesky(kernel)).contiguous()
        return Predictor(y, chosen, width, weights, self.noise, self.pool)

    def restored(self, tensors: dict[str, Tensor]) -> FittedInitializer | None:
        fitted = tensors.keys() == {"measurements", "chosen", "width", "weights"}
        return Predictor(**tensors, noise=self.noise, forwards=self.pool) if fitted else None


FEATURES = 512


@dataclass(frozen=True)
class Predictor(FittedInitializer):
    """A fitted `Regression`."""

    measurements: Tensor  # (pool, features)
    chosen: Tensor  # (features,) long, which values of a measurement they are
    width: Tensor  # () of the kernel
    weights: Tensor  # (pool, n)
    noise: float
    forwards: int

    def __call__(self, problem: Reconstruction, restarts: int, seed: int, wider: float = 1.0) -> Tensor:
        seen = problem.measurement.flatten(1)[:, self.chosen].to(self.measurements)
        kernel = torch.exp(-distances(seen, self.measurements).square() / self.width)
        centre = (kernel @ self.weights).to(problem.like).reshape(1, problem.batch, *problem.shape)
        noise = self.noise * wider * problem.generator.distribution.scale.to(centre)
        return around(centre.expand(restarts, *centre.shape[1:]), noise, seed, first=wider == 1.0)


def _wide(x: Tensor) -> Tensor:
    """In double precision, where the device has it."""
    return x if x.device.type == "mps" else x.double()


def distances(x: Tensor, y: Tensor) -> Tensor:
    """Between rows of ``x`` (B, m) and of ``y`` (n, m): (B, n), exactly those of a row alone."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def _once(guesses: Sequence[_Neighbours | Predictor]) -> Sequence[FittedInitializer]:
    """The guesses, of which the first alone has what their common pool has cost."""
    return [guesses[0], *(replace(guess, forwards=0) for guess in guesses[1:])]


@torch.no_grad()
def measured_each(
    generator: Generator,
    operators: Sequence[Callable[[Tensor], Tensor]],
    z: Tensor,
    features: Callable[[Tensor], Tensor] = lambda values: values,
) -> list[Tensor]:
    """For each operator the measurements (len(z), m) of the images of latents, or those ``features`` of them.

    The first latent alone, then as many at a time as there is room for.
    """
    parts: list[list[Tensor]] = [[] for _ in operators]
    start, count = 0, 1
    with frozen(generator):
        while start < len(z):
            images = generator(z[start : start + count])
            if start:  # one image may be an exception
                generator.check_images(images)
            for part, operator in zip(parts, operators, strict=True):
                part.append(features(operator(images).flatten(1)))
            start, count = start + count, max(1, min(CHUNK, VALUES // images[0].numel()))
    return [torch.cat(part) for part in parts]


def measured(generator: Generator, operator: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Measurements (len(z), m) of the images of latents."""
    return measured_each(generator, [operator], z)[0]
