"""Starts from a pool of samples of the generator: the nearest ones, or the prediction of a regression on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from latentopt.arguments import checked
from latentopt.errors import InputError, nonnegative, positive
from latentopt.inverse.initializers.base import POOL_SEED, FittedInitializer, Initializer, scatter
from latentopt.inverse.problem import Reconstruction
from latentopt.networks.freezing import frozen
from latentopt.networks.generator import Generator
from latentopt.operators.unknown import bind
from latentopt.progress import ProgressLine

CHUNK_LATENTS, CHUNK_VALUES, CHUNK_ACTIVATIONS = 250, 2**22, 2**24
"""Greatest numbers of latents, of values of their images, and of values of the network's largest layer, in a forward of
the pool; it has one latent at least."""
FEATURES = 512
"""Greatest number of values of a measurement that `Regression` uses."""
WHOLE, SKETCHED = 2**14, 4093
"""Greatest number of values of a measurement that `Nearest` compares whole, and number of values of the sketch of a
larger one; a prime, so that columns of an image do not meet."""


@checked
@dataclass(frozen=True)
class Nearest(Initializer):
    """The samples of a pool whose measurements are nearest to the target's, the nearest first.

    Measurements of more than `WHOLE` values are compared by sketches of `SKETCHED` values (count sketch, Charikar et
    al. 2002), whose squared distances are right on average, with a standard deviation of about 2 %.

    Args:
        pool: number of samples, >= 1.

    Raises:
        InputError: the pool is no number of samples.
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
        measured = [_finite_rows(z, y) for y in measure_each(generator, operators, z, sketch)]
        return _charge_first([FittedNearest(*pair, self.pool) for pair in measured])

    def restore(self, tensors: dict[str, Tensor]) -> FittedInitializer | None:
        return FittedNearest(**tensors, forwards=self.pool) if tensors.keys() == {"latents", "measurements"} else None


@dataclass(frozen=True)
class FittedNearest(FittedInitializer):
    """A pool of samples and their measurements."""

    latents: Tensor  # (pool, *latent_shape)
    measurements: Tensor  # (pool, m), or their sketches
    forwards: int

    def __call__(self, problem: Reconstruction, restarts: int, seed: int, spread: float = 1.0) -> Tensor:
        count = min(restarts, len(self.latents))
        tried = min(int(restarts * (spread - 1)), len(self.latents) - count)  # by earlier attempts
        nearest = pairwise_distances(sketch(problem.measurement.flatten(1)), self.measurements).topk(
            tried + count, 1, largest=False
        )
        return self.latents[nearest.indices[:, tried:].T]


@checked
@dataclass(frozen=True)
class Regression(Initializer):
    """Latents that kernel ridge regression on a pool of samples predicts from the measurement, and points around them.

    The kernel is ``exp(-d^2 / (width median(d^2)))`` of the distance ``d`` between measurements, in at most `FEATURES`
    of their values.

    Args:
        pool: number of samples, >= 2.
        noise: standard deviation around the prediction, of all restarts but the first, >= 0, as a multiple of the
            latents' own.
        width: width of the kernel, > 0.
        ridge: added to the diagonal of the kernel matrix, > 0.

    Raises:
        InputError: an argument is not as described.
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
        chosen = list[Tensor]()  # indices of the features, once the size of a measurement is known

        def choose_features(values: Tensor) -> Tensor:
            if not chosen:
                order = torch.randperm(
                    values.shape[1], generator=torch.Generator("cpu").manual_seed(seed), device="cpu"
                )
                chosen.append(order[:FEATURES].to(values.device))
            return values[:, chosen[0]]

        measurements = measure_each(generator, operators, z, choose_features)
        return _charge_first([self._solve(z, chosen[0], y) for y in measurements])

    def _solve(self, z: Tensor, chosen: Tensor, y: Tensor) -> FittedRegression:
        """Return the regression from the features ``chosen`` (pool, features) of measurements to latents ``z``."""
        z, y = _finite_rows(z, y, minimum=2)
        y = _to_double(y)  # so that a batch starts where its samples alone do
        squares = torch.cdist(y, y, compute_mode="use_mm_for_euclid_dist").square()  # the same pool for every batch
        width = self.width * squares.median().clamp_min(torch.finfo(y.dtype).tiny)
        kernel = torch.exp(-squares / width)
        kernel.diagonal().add_(self.ridge)
        weights = torch.cholesky_solve(z.flatten(1).to(y), torch.linalg.cholesky(kernel)).contiguous()
        return FittedRegression(y, chosen, width, weights, self.noise, self.pool)

    def restore(self, tensors: dict[str, Tensor]) -> FittedInitializer | None:
        complete = tensors.keys() == {"measurements", "chosen", "width", "weights"}
        return FittedRegression(**tensors, noise=self.noise, forwards=self.pool) if complete else None


@dataclass(frozen=True)
class FittedRegression(FittedInitializer):
    """A fitted `Regression`."""

    measurements: Tensor  # (pool, features)
    chosen: Tensor  # (features,) long, indices of these values in a measurement
    width: Tensor  # () of the kernel
    weights: Tensor  # (pool, n)
    noise: float
    forwards: int

    def __call__(self, problem: Reconstruction, restarts: int, seed: int, spread: float = 1.0) -> Tensor:
        features = problem.measurement.flatten(1)[:, self.chosen].to(self.measurements)
        kernel = torch.exp(-pairwise_distances(features, self.measurements).square() / self.width)
        centre = (kernel @ self.weights).to(problem.like).reshape(1, problem.batch, *problem.shape)
        noise = self.noise * spread * problem.generator.distribution.scale.to(centre)
        return scatter(centre.expand(restarts, *centre.shape[1:]), noise, seed, keep_first=spread == 1.0)


def _finite_rows(z: Tensor, y: Tensor, minimum: int = 1) -> tuple[Tensor, Tensor]:
    """Return the latents (n, *latent_shape) whose measurements (n, m) are finite, and these.

    Raises:
        InputError: there are fewer than ``minimum``.
    """
    finite = y.isfinite().all(1)
    if bool(finite.all()):
        return z, y
    if int(finite.sum()) < minimum:
        raise InputError("generator", "finite images", f"NaN or infinity in {len(y) - int(finite.sum())} of {len(y)}")
    return z[finite], y[finite]


def _to_double(x: Tensor) -> Tensor:
    """Return ``x`` in double precision where its device has it."""
    return x if x.device.type == "mps" else x.double()


def pairwise_distances(x: Tensor, y: Tensor) -> Tensor:
    """Return the distances (B, n) between rows of ``x`` (B, m) and ``y`` (n, m), the same in a batch and alone."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def _charge_first(fitted: Sequence[FittedNearest | FittedRegression]) -> Sequence[FittedInitializer]:
    """Return fitted initializers of which the first alone bears the cost of their common pool."""
    return [fitted[0], *(replace(other, forwards=0) for other in fitted[1:])]


def sketch(values: Tensor) -> Tensor:
    """Return measurements (n, m) as they are, or, where m > `WHOLE`, their sketches (n, `SKETCHED`).

    Each value has a random sign, the same in every call, and is added to the place of its index modulo `SKETCHED`.
    """
    size = values.shape[1]
    if size <= WHOLE:
        return values
    rng = torch.Generator("cpu").manual_seed(POOL_SEED)
    signs = torch.randint(2, (size,), generator=rng, device="cpu").mul_(2).sub_(1).to(values)
    return F.pad(values * signs, (0, -size % SKETCHED)).unflatten(1, (-1, SKETCHED)).sum(1)


def largest_layer(generator: Generator, z: Tensor) -> tuple[Tensor, int]:
    """Return the images of latents (B, *latent_shape), and the number of values of the largest output of a module."""
    sizes = [1]

    def measure(module: object, inputs: object, output: object) -> None:
        sizes.append(output.numel() if isinstance(output, Tensor) else 0)

    modules = [module for module in generator.modules() if not isinstance(module, torch.jit.ScriptModule)]
    hooks = [module.register_forward_hook(measure) for module in modules]
    try:
        return generator(z), max(sizes)
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def measure_each(
    generator: Generator,
    operators: Sequence[Callable[[Tensor], Tensor]],
    z: Tensor,
    features: Callable[[Tensor], Tensor] = lambda values: values,
) -> list[Tensor]:
    """Measure the images of latents ``z`` (n, *latent_shape) by each of several operators, in chunks.

    Where the generator has conditions of several samples, the latents take them in turn. Return for each operator the
    ``features`` (n, k) of its measurements (n, m).
    """
    measured = list[Tensor]()  # whole from the first chunk on, as small pieces between large ones would scatter memory
    start, count, largest = 0, 1, 1  # the first latent alone tells the sizes of an image and of the layers
    samples = max(map(len, generator.conditions.values()), default=1)
    with frozen(generator), ProgressLine("learn the start", len(z), "sample") as line:
        while start < len(z):
            chunk = z[start : start + count]
            rows = torch.arange(start, start + len(chunk), device="cpu") % samples
            part_generator = generator if samples == 1 else generator.take(rows)
            if start:
                images = part_generator(chunk)
            else:
                images, largest = largest_layer(part_generator, chunk)
            if start:  # one image may be an exception
                generator.check_images(images)
            for number, operator in enumerate(operators):
                values = features(bind(operator, chunk)(images).flatten(1))
                if not start:
                    measured.append(values.new_empty(len(z), values.shape[1]))
                measured[number][start : start + len(chunk)] = values
            line.update(len(images))
            start += count
            count = max(1, min(CHUNK_LATENTS, CHUNK_VALUES // images[0].numel(), CHUNK_ACTIVATIONS // largest))
    return measured
