"""Starts at random, their scale given or probed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from latentopt.errors import InputError, positive
from latentopt.inverse.initializers.base import POOL_SEED, FittedInitializer, Initializer
from latentopt.inverse.priors import latent_space
from latentopt.inverse.problem import Reconstruction
from latentopt.networks.freezing import frozen
from latentopt.networks.generator import Generator
from latentopt.noise import Noise
from latentopt.optimizers import LBFGS
from latentopt.solver.loop import solve


@dataclass(frozen=True)
class Random(Initializer):
    """Random latents, those that `latentopt.solve` draws.

    Args:
        scale: their standard deviation, > 0 (of a generator with ``latents`` of its own, what their distance from
            their mean is multiplied by); None: the generator's `start_scale`; ``probe``: of `SCALES`, the one from
            which samples of the generator itself are best fitted, in a short search.
    """

    scale: float | str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.scale, str) and self.scale != "probe":
            raise InputError("Random.scale", "a number > 0, probe or None", repr(self.scale))
        if self.scale is not None and not isinstance(self.scale, str):
            positive("Random.scale", self.scale)

    def fit(self, generator: Generator, operator: Callable[[Tensor], Tensor], seed: int) -> FittedInitializer:
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
        drawn = generator.latents(16, seed + POOL_SEED + 1)
        mean = generator.distribution.mean.to(drawn)
        start = mean + scale * (drawn - mean)
        found = solve(problem, LBFGS(memory=10), steps=40, start=start, seed=seed)
        losses.append(found.value.median().item())
        forwards += int(found.forwards.sum())
    return SCALES[losses.index(min(losses))], forwards


@dataclass(frozen=True)
class _Scattered(FittedInitializer):
    scale: float
    forwards: int

    def __call__(self, problem: Reconstruction, restarts: int, seed: int, wider: float = 1.0) -> Tensor:
        like = problem.like.new_empty(restarts, *problem.shape)
        drawn = latent_space(problem.generator, self.scale * wider).sample(like, Noise(seed, torch.arange(restarts)))
        return drawn[:, None].expand(-1, problem.batch, *problem.shape)
