"""A decoder in latents of which every direction of the channels changes the image equally much."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from latentopt import sets
from latentopt.inverse.priors import Prior
from latentopt.networks.generator import Generator

PROBES = 4
"""Random directions of the image by which its sensitivity is estimated: a forward, and a backward for each."""
FLOOR = 1e-3
"""Least sensitivity of a direction, relative to the greatest."""


class Channels(nn.Module):
    """Multiplies the channels of latents (B, C, h, w) by a matrix (C, C)."""

    matrix: Tensor

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix)

    def forward(self, u: Tensor) -> Tensor:
        return torch.einsum("cd,bdhw->bchw", self.matrix, u)


def whitened(generator: Generator, z: Tensor) -> tuple[Generator, Channels, Tensor]:
    """Return the generator in other latents, the map from these to its own, and ``z`` in them.

    With J the Jacobian at ``z`` and H the mean of its ``J^T J`` over positions, own latents are ``H^(-1/2)`` times the
    new ones, in the scale in which the mean square of the matrix's rows is 1.

    Args:
        generator: has latents (C, h, w).
        z: (1, C, h, w).
    """
    z = z.detach().requires_grad_()
    image = generator(z)
    noise = torch.Generator().manual_seed(0)
    sensitivity = torch.zeros(z.shape[1], z.shape[1]).to(z)
    for _ in range(PROBES):
        (grad,) = torch.autograd.grad(image, z, torch.randn(image.shape, generator=noise).to(image), retain_graph=True)
        sensitivity += torch.einsum("bchw,bdhw->cd", grad, grad)
    values, vectors = torch.linalg.eigh(sensitivity)
    root = values.clamp_min(FLOOR * values[-1]).sqrt()
    scale = (1 / root).square().mean().sqrt()
    back = Channels(vectors @ torch.diag(1 / (scale * root)) @ vectors.T)
    there = Channels(vectors @ torch.diag(scale * root) @ vectors.T)
    module = nn.Sequential(back, generator.module)
    other = Generator(module, latent_shape=generator.latent_shape, output_range=generator.output_range)
    return other.eval().requires_grad_(False), back, there(z.detach())


class InLatents(Prior):
    """A prior of a generator's own latents, for those of which ``back`` makes them.

    Args:
        back: the map to own latents.
        generator: the generator in these.
        prior: their prior.
    """

    def __init__(self, back: Channels, generator: Generator, prior: Prior) -> None:
        self.back, self.generator, self.prior = back, generator, prior

    def feasible(self, generator: Generator) -> sets.FeasibleSet:
        return sets.Free()

    def penalty(self) -> Callable[[Tensor], Tensor] | None:
        penalty = self.prior.penalty_of(self.generator)
        return None if penalty is None else lambda u: penalty(self.back(u))
