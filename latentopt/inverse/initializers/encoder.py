"""Starts from the generator's own encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from latentopt.errors import InputError, nonnegative
from latentopt.inverse.initializers.base import POOL_SEED, FittedInitializer, Initializer, around
from latentopt.inverse.problem import Reconstruction
from latentopt.networks.freezing import frozen
from latentopt.networks.generator import Generator


@dataclass(frozen=True)
class Encoder(Initializer):
    """What the generator's own encoder says of an image, and points around it.

    Args:
        noise: standard deviation of the restarts but the first around it, >= 0, as a multiple of the latents' own.
    """

    noise: float = 0.3

    def __post_init__(self) -> None:
        nonnegative("Encoder.noise", self.noise)

    def fit(self, generator: Generator, operator: Callable[[Tensor], Tensor], seed: int) -> FittedInitializer:
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
class _Encoded(FittedInitializer):
    noise: float
    forwards: int

    def __call__(self, problem: Reconstruction, restarts: int, seed: int, wider: float = 1.0) -> Tensor:
        with torch.no_grad(), frozen(problem.generator):
            centre = encoded(problem.generator, problem.measurement)[None]
        noise = self.noise * wider * problem.generator.distribution.scale.to(centre)
        return around(centre.expand(restarts, *centre.shape[1:]), noise, seed, first=wider == 1.0)


def encoded(generator: Generator, images: Tensor) -> Tensor:
    """Latents (B, *latent_shape) of images (B, C, H, W), by the generator's encoder.

    Raises:
        InputError: it is the encoder of another generator.
    """
    assert generator.encoder is not None
    shape, size = generator.latent_shape, prod(generator.latent_shape)
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
