"""Where a reconstruction starts: at random, or at what samples of the generator or an encoder say of a measurement."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from latentopt.draws import Draws
from latentopt.errors import InputError, nonnegative, positive
from latentopt.generators import Generator
from latentopt.networks import frozen
from latentopt.optimizers import LBFGS
from latentopt.samples import per_sample
from latentopt.solve import solve
from latentopt.tasks.reconstruct import Reconstruction

POOL_SEED = 1_000_003
"""Added to the seed, so that a pool is not what a test drew as its targets."""
CHUNK = 250
"""Latents in a forward of the pool."""


class Guess(ABC):
    """What a `Start` has learnt of a generator and an operator."""

    forwards: int
    """Of the generator, in all."""

    @abstractmethod
    def __call__(self, problem: Reconstruction, restarts: int, seed: int, wider: float = 1.0) -> Tensor:
        """Starts (k, B, *latent_shape), k <= restarts, not projected.

        ``wider`` > 1, in a further round, multiplies how far the starts of a sample lie from each other.
        """


class Start(ABC):
    """A way to find starts."""

    @abstractmethod
    def learn(self, generator: Generator, operator: Callable[[Tensor], Tensor], seed: int) -> Guess:
        """What is needed to start any number of targets."""

    def check(self, generator: Generator, operator: Callable[[Tensor], Tensor]) -> None:  # noqa: B027
        """Raise `InputError` where the start cannot be used with these; the others can."""


@dataclass(frozen=True)
class Random(Start):
    """Normal random latents, those that `latentopt.solve` draws.

    Args:
        scale: their standard deviation, > 0; None: the generator's `start_scale`; ``probe``: of `SCALES`, the one from
            which samples of the generator itself are best fitted, in a short search.
    """

    scale: float | str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.scale, str) and self.scale != "probe":
            raise InputError("Random.scale", "a number > 0, probe or None", repr(self.scale))
        if self.scale is not None and not isinstance(self.scale, str):
            positive("Random.scale", self.scale)

    def learn(self, generator: Generator, operator: Callable[[Tensor], Tensor], seed: int) -> Guess:
        if isinstance(self.scale, str):
            return _Scattered(*probed_scale(generator, operator, seed))
        return _Scattered(self.scale or generator.start_scale, 0)


SCALES = (0.1, 0.2, 0.5, 1.0)


def probed_scale(generator: Generator, operator: Callable[[Tensor], Tensor], seed: int) -> tuple[float, int]:
    """The best of `SCALES`, and the forwards that it took: 16 own samples, one start, 40 steps of L-BFGS."""
    with torch.no_grad(), frozen(generator):
        target = operator(generator(generator.latents(16, seed + POOL_SEED)))
    losses, forwards = list[float](), len(target)
    problem = Reconstruction(generator, target, operator, measured=True)
    for scale in SCALES:
        start = scale * generator.latents(16, seed + POOL_SEED + 1)
        found = solve(problem, LBFGS(memory=10), steps=40, start=start, seed=seed)
        losses.append(found.value.median().item())
        forwards += int(found.forwards.sum())
    return SCALES[losses.index(min(losses))], forwards


@dataclass(frozen=True)
class _Scattered(Guess):
    scale: float
    forwards: int

    def __call__(self, problem: Reconstruction, restarts: int, seed: int, wider: float = 1.0) -> Tensor:
        zero = problem.like.new_zeros(restarts, problem.batch, *problem.shape)
        return _around(zero, self.scale * wider, seed, first=False)


@dataclass(frozen=True)
class Nearest(Start):
    """The samples of a pool that are nearest to the measurement, the nearest first.

    Args:
        pool: samples, >= 1.
    """

    pool: int = 2000

    def __post_init__(self) -> None:
        positive("Nearest.pool", self.pool, integer=True)

    def learn(self, generator: Generator, operator: Callable[[Tensor], Tensor], seed: int) -> Guess:
        z = generator.latents(self.pool, seed + POOL_SEED)
        return _Neighbours(z, measured(generator, operator, z), self.pool)


@dataclass(frozen=True)
class _Neighbours(Guess):
    latents: Tensor  # (pool, *latent_shape)
    measurements: Tensor  # (pool, m)
    forwards: int

    def __call__(self, problem: Reconstruction, restarts: int, seed: int, wider: float = 1.0) -> Tensor:
        count = min(restarts, len(self.latents))
        passed = min(int(restarts * (wider - 1)), len(self.latents) - count)  # those that were tried before
        nearest = distances(problem.measurement.flatten(1), self.measurements).topk(passed + count, 1, largest=False)
        return self.latents[nearest.indices[:, passed:].T]


@dataclass(frozen=True)
class Regression(Start):
    """What kernel ridge regression on a pool of samples predicts from the measurement, and points around it.

    The kernel is ``exp(-d^2 / (width median(d^2)))`` of the distance ``d`` between measurements, seen at `FEATURES` of
    their values where they have more.

    Args:
        pool: samples, >= 2.
        noise: standard deviation of the restarts but the first around the prediction, >= 0, in units of the latents.
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

    def learn(self, generator: Generator, operator: Callable[[Tensor], Tensor], seed: int) -> Guess:
        z = generator.latents(self.pool, seed + POOL_SEED)
        y = measured(generator, operator, z)
        chosen = torch.randperm(y.shape[1], generator=torch.Generator().manual_seed(seed))[:FEATURES].to(y.device)
        y = _wide(y[:, chosen])  # so that a batch starts where its samples alone do
        squares = torch.cdist(y, y, compute_mode="use_mm_for_euclid_dist").square()  # the same pool for every batch
        width = self.width * squares.median().clamp_min(torch.finfo(y.dtype).tiny)
        kernel = torch.exp(-squares / width)
        kernel.diagonal().add_(self.ridge)
        weights = torch.cholesky_solve(z.flatten(1).to(y), torch.linalg.cholesky(kernel))
        return Predictor(y, chosen, width, weights, self.noise, self.pool)


FEATURES = 512


@dataclass(frozen=True)
class Predictor(Guess):
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
        return _around(centre.expand(restarts, *centre.shape[1:]), self.noise * wider, seed, first=wider == 1.0)


@dataclass(frozen=True)
class Encoder(Start):
    """What the generator's own encoder says of an image, and points around it.

    Args:
        noise: standard deviation of the restarts but the first around it, >= 0.
    """

    noise: float = 0.3

    def __post_init__(self) -> None:
        nonnegative("Encoder.noise", self.noise)

    def learn(self, generator: Generator, operator: Callable[[Tensor], Tensor], seed: int) -> Guess:
        self.check(generator, operator)
        return _Encoded(self.noise, 2 * CHECKED)

    def check(self, generator: Generator, operator: Callable[[Tensor], Tensor]) -> None:
        if generator.encoder is None:
            raise InputError("start", "a generator with an encoder", "one without")
        z = generator.latents(CHECKED, POOL_SEED)
        with torch.no_grad(), frozen(generator):
            images = generator(z)
            if operator(images).shape != images.shape:
                raise InputError("start", "an operator whose measurements are whole images, for an encoder", operator)
            error = (generator(encoded(generator, images)) - images).square().mean()
            chance = (images.roll(1, 0) - images).square().mean()
        if not error < 0.5 * chance:
            raise InputError("encoder", "this generator's", "one that does not find the generator's own images")


CHECKED = 32
"""Images of its own that a generator's encoder is tried on."""


@dataclass(frozen=True)
class _Encoded(Guess):
    noise: float
    forwards: int

    def __call__(self, problem: Reconstruction, restarts: int, seed: int, wider: float = 1.0) -> Tensor:
        with torch.no_grad(), frozen(problem.generator):
            centre = encoded(problem.generator, problem.measurement)[None]
        return _around(centre.expand(restarts, *centre.shape[1:]), self.noise * wider, seed, first=wider == 1.0)


def encoded(generator: Generator, images: Tensor) -> Tensor:
    """Latents (B, *latent_shape) of images (B, C, H, W), by the generator's encoder.

    Raises:
        InputError: it is the encoder of another generator.
    """
    assert generator.encoder is not None
    shape, size = generator.latent_shape, generator.latents(1, 0).numel()
    try:
        z = generator.encoder(images)
    except (RuntimeError, ValueError, IndexError) as error:
        raise InputError("encoder", "one that takes the generator's images", str(error).splitlines()[0]) from error
    if not isinstance(z, Tensor) or len(z) != len(images):
        raise InputError("encoder", "one that returns a tensor, a row an image", getattr(z, "shape", type(z).__name__))
    z = z.flatten(1)
    if z.shape[1] not in (size, 2 * size):
        raise InputError("encoder", f"{size} latents, or {2 * size} with their variances", f"{z.shape[1]}")
    return z[:, :size].reshape(-1, *shape)


STARTS: dict[str, Callable[[], Start]] = {
    "random": Random,
    "nearest": Nearest,
    "regression": Regression,
    "encoder": Encoder,
}


def start_named(start: Start | str) -> Start:
    """The start itself, or the one of a name.

    Raises:
        InputError: no such name.
    """
    if isinstance(start, Start):
        return start
    if start not in STARTS:
        raise InputError("start", f"one of {', '.join(STARTS)}, or a Start", repr(start))
    return STARTS[start]()


def learnt(start: Start, generator: Generator, operator: Callable[[Tensor], Tensor], seed: int) -> Guess:
    """What a start learns of a generator; where each sample has its own condition, of each condition by itself."""
    own = {name: values for name, values in generator.conditions.items() if len(values) > 1}
    if not own:
        return start.learn(generator, operator, seed)
    first = dict[str, int]()
    for row in range(max(map(len, own.values()))):
        first.setdefault(_condition(generator, row), row)
    parts = {key: generator.take(torch.tensor([row])) for key, row in first.items()}
    guesses = {key: start.learn(part, operator, seed) for key, part in parts.items()}
    return Conditional(guesses, sum(guess.forwards for guess in guesses.values()))


@dataclass(frozen=True)
class Conditional(Guess):
    """A guess for each condition of a generator."""

    guesses: dict[str, Guess]
    forwards: int

    def __call__(self, problem: Reconstruction, restarts: int, seed: int, wider: float = 1.0) -> Tensor:
        keys = [_condition(problem.generator, row) for row in range(problem.batch)]
        found = dict[int, Tensor]()
        for key in dict.fromkeys(keys):
            rows = [row for row, its in enumerate(keys) if its == key]
            part = self.guesses[key](problem.samples(torch.tensor(rows)), restarts, seed, wider)
            found |= dict(zip(rows, part.unbind(1), strict=True))
        return torch.stack([found[row] for row in range(problem.batch)], 1)


def _condition(generator: Generator, row: int) -> str:
    return repr([values[row if len(values) > 1 else 0].tolist() for values in generator.conditions.values()])


def _wide(x: Tensor) -> Tensor:
    """In double precision, where the device has it."""
    return x if x.device.type == "mps" else x.double()


def distances(x: Tensor, y: Tensor) -> Tensor:
    """Between rows of ``x`` (B, m) and of ``y`` (n, m): (B, n), exactly those of a row alone."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


@torch.no_grad()
def measured(generator: Generator, operator: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Measurements (len(z), m) of the images of latents."""
    with frozen(generator):
        return torch.cat([operator(generator(part)).flatten(1) for part in z.split(CHUNK)])


def _around(centre: Tensor, noise: float, seed: int, first: bool) -> Tensor:
    """Points around ``centre`` (k, B, *shape), a restart's samples with one noise; ``first``: the first with none."""
    rows = torch.arange(len(centre), device=centre.device)
    drawn = noise * Draws(seed, rows).normal(centre[:, 0], "start")
    return centre + (drawn * per_sample((rows > 0).to(drawn), drawn) if first else drawn)[:, None]
