"""Random starts, of a given scale or a probed one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from latentopt.errors import InputError, positive
from latentopt.inverse.initializers.base import POOL_SEED, FittedInitializer, Initializer
from latentopt.inverse.priors import latent_space
from latentopt.inverse.problem import Reconstruction
from latentopt.networks.generator import Generator
from latentopt.networks.generator_checks import finite_images
from latentopt.noise import Noise
from latentopt.optimizers import LBFGS
from latentopt.solver.loop import solve

SCALES = (0.1, 0.2, 0.5, 1.0)
"""Scales that a probe tries."""


@dataclass(frozen=True)
class Random(Initializer):
    """Random latents, those that `latentopt.solve` draws.

    Args:
        scale: standard deviation, > 0; for a generator with ``latents`` of its own, the factor of their distance from
            their mean. None: the generator's ``start_scale``. ``probe``: the one of `SCALES` from which a short search
            fits samples of the generator best.

    Raises:
        InputError: the scale is none of these.
    """

    scale: float | str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.scale, str) and self.scale != "probe":
            raise InputError("Random.scale", "a number > 0, probe or None", repr(self.scale))
        if self.scale is not None and not isinstance(self.scale, str):
            positive("Random.scale", self.scale)

    def fit(self, generator: Generator, operator: Callable[[Tensor], Tensor], seed: int) -> FittedInitializer:
        if isinstance(self.scale, str):
            return FittedRandom(*probe_scale(generator, operator, seed))
        return FittedRandom(self.scale or generator.start_scale, 0)


@dataclass(frozen=True)
class FittedRandom(FittedInitializer):
    """Random latents of a scale."""

    scale: float
    forwards: int

    def __call__(self, problem: Reconstruction, restarts: int, seed: int, spread: float = 1.0) -> Tensor:
        like = problem.like.new_empty(restarts, *problem.shape)
        space = latent_space(problem.generator, self.scale * spread)
        starts = space.sample(like, Noise(seed, torch.arange(restarts, device="cpu")))
        return starts[:, None].expand(-1, problem.batch, *problem.shape)


def probe_scale(generator: Generator, operator: Callable[[Tensor], Tensor], seed: int) -> tuple[float, int]:
    """Return the best of `SCALES` and the forwards of the probe: 16 samples, one start, 40 steps of L-BFGS."""
    with torch.no_grad():
        target = operator(finite_images(generator, generator.latents(16, seed + POOL_SEED))[1])
    losses, forwards = list[float](), 16
    problem = Reconstruction(generator, target, operator, measured=True)
    drawn = generator.latents(16, seed + POOL_SEED + 1)[: len(target)]
    mean = generator.distribution.mean.to(drawn)
    for scale in SCALES:
        try:
            result = solve(problem, LBFGS(memory=10), steps=40, start=mean + scale * (drawn - mean), seed=seed)
        except InputError as error:
            if error.name != "objective":
                raise
            losses.append(inf)  # an image is not finite at this scale
            continue
        losses.append(result.value.median().item())
        forwards += int(result.forwards.sum())
    return SCALES[losses.index(min(losses))], forwards
