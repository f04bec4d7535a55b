"""Starts predicted by the generator's own encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from latentopt.errors import InputError, nonnegative
from latentopt.inverse.initializers.base import POOL_SEED, FittedInitializer, Initializer, scatter
from latentopt.inverse.problem import Reconstruction
from latentopt.networks.checks import first_output
from latentopt.networks.freezing import frozen
from latentopt.networks.generator import Generator, finite_images
from latentopt.networks.outputs import TensorNetwork

CHECKED = 32
"""Samples of a generator on which its encoder is checked."""


@dataclass(frozen=True)
class Encoder(Initializer):
    """Latents that the generator's own encoder predicts, and points around them.

    Args:
        noise: standard deviation around the prediction, of all restarts but the first, >= 0, as a multiple of the
            latents' own.

    Raises:
        InputError: the noise is negative or not finite.
    """

    noise: float = 0.3

    def __post_init__(self) -> None:
        nonnegative("Encoder.noise", self.noise)

    def fit(self, generator: Generator, operator: Callable[[Tensor], Tensor], seed: int) -> FittedInitializer:
        self.check(generator, operator)
        return FittedEncoder(self.noise, 2 * CHECKED)

    def check(self, generator: Generator, operator: Callable[[Tensor], Tensor]) -> None:
        if generator.encoder is None:
            raise InputError("start", "a generator with an encoder", "one without")
        _, images = finite_images(generator, generator.latents(CHECKED, POOL_SEED))
        with torch.no_grad(), frozen(generator):
            if operator(images).shape != images.shape:
                raise InputError("start", "an operator whose measurements are whole images, for an encoder", operator)
            error = (generator(encode(generator, images)) - images).square().mean()
            chance = (images.roll(1, 0) - images).square().mean()
        if not error < 0.5 * chance:
            raise InputError("encoder", "this generator's", "one that does not find the generator's own images")


@dataclass(frozen=True)
class FittedEncoder(FittedInitializer):
    """An encoder that was checked on its generator."""

    noise: float
    forwards: int

    def __call__(self, problem: Reconstruction, restarts: int, seed: int, spread: float = 1.0) -> Tensor:
        with torch.no_grad(), frozen(problem.generator):
            centre = encode(problem.generator, problem.measurement)[None]
        noise = self.noise * spread * problem.generator.distribution.scale.to(centre)
        return scatter(centre.expand(restarts, *centre.shape[1:]), noise, seed, keep_first=spread == 1.0)


def encode(generator: Generator, images: Tensor) -> Tensor:
    """Return the latents (B, *latent_shape) that the generator's encoder predicts for images (B, C, H, W).

    Raises:
        InputError: the encoder belongs to another generator.
    """
    assert generator.encoder is not None
    shape, size = generator.latent_shape, prod(generator.latent_shape)
    z = first_output(TensorNetwork(generator.encoder, "encoder"), images, "encoder").flatten(1)
    if z.shape[1] not in (size, 2 * size):
        raise InputError("encoder", f"{size} latents, or {2 * size} with their variances", f"{z.shape[1]}")
    return z[:, :size].reshape(-1, *shape)
