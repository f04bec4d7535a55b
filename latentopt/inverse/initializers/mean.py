"""The mean of the latents as a start, as in StyleGAN2's projector (arXiv 1912.04958, appendix D)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from latentopt.errors import nonnegative
from latentopt.inverse.initializers.base import FittedInitializer, Initializer, scatter
from latentopt.inverse.problem import Reconstruction
from latentopt.networks.generator import Generator
from latentopt.noise import Noise


@dataclass(frozen=True)
class Mean(Initializer):
    """The mean of the generator's latents, such as the mean w of StyleGAN2, and points around it.

    Latents by name that begin with ``noise`` are drawn from their distribution instead, for each restart.

    Args:
        noise: standard deviation around the mean, of all restarts but the first, >= 0, as a multiple of the latents'
            own.

    Raises:
        InputError: the noise is negative or not finite.
    """

    noise: float = 0.3

    def __post_init__(self) -> None:
        nonnegative("Mean.noise", self.noise)

    def fit(self, generator: Generator, operator: Callable[[Tensor], Tensor], seed: int) -> FittedInitializer:
        return FittedMean(self.noise)


@dataclass(frozen=True)
class FittedMean(FittedInitializer):
    """The mean of a generator's latents."""

    noise: float
    forwards: int = 0

    def __call__(self, problem: Reconstruction, restarts: int, seed: int, spread: float = 1.0) -> Tensor:
        own = problem.generator.distribution
        centre = own.mean.to(problem.like).expand(restarts, 1, *problem.shape)
        noise = self.noise * spread * own.scale.to(problem.like)
        starts = scatter(centre, noise, seed, keep_first=spread == 1.0)
        drawn = Noise(seed, torch.arange(restarts, device="cpu")).custom(own.draw, starts[:, 0], "maps")
        begin = 0
        for name, shape in problem.generator.part_shapes.items():
            end = begin + prod(shape)
            if name.startswith("noise"):
                starts[:, 0, begin:end] = drawn[:, begin:end]
            begin = end
        return starts.expand(-1, problem.batch, *problem.shape)
