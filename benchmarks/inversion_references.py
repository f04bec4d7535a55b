"""Baselines for inverting a generator: a hand-written loop, and deepinv's CSGM."""

from __future__ import annotations

import itertools
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.inversion_methods import RECOVERED, InversionCase, InversionClock, InversionMethod
from latentopt.networks.generator import Generator


def hand_written(lr: float, case: InversionCase, watch: InversionClock) -> None:
    """Run a simple hand-written loop: Adam on all latents, one random start each, mean squared error, no schedule."""
    z = case.generator.latents(len(case.targets), case.seed).requires_grad_()
    adam = torch.optim.Adam([z], lr)
    while True:
        image = case.generator(z)
        losses = (image - case.targets).square().flatten(1).mean(1)
        if watch.see(z.detach(), losses.detach()):
            return
        adam.zero_grad()
        losses.sum().backward()
        adam.step()


def hand_written_restarts(lr: float, steps: int, case: InversionCase, watch: InversionClock) -> None:
    """Run the same loop with restarts: targets not recovered after so many steps start again elsewhere."""
    x = case.generator.latents(len(case.targets), case.seed)
    value = torch.full((len(x),), torch.inf)
    for attempt in itertools.count():
        rows = (value >= RECOVERED).nonzero()[:, 0]
        z = case.generator.latents(len(x), case.seed + 1000 * attempt)[rows].requires_grad_()
        adam = torch.optim.Adam([z], lr)
        for _ in range(steps):
            losses = (case.generator(z) - case.targets[rows]).square().flatten(1).mean(1)
            x[rows], value[rows] = z.detach(), losses.detach()
            if watch.see(x, value):
                return
            adam.zero_grad()
            losses.sum().backward()
            adam.step()
        value = watch.values[-1].clone()


class _Backbone(nn.Module):
    """Adapt a generator to deepinv's CSGM, with latents (B, nz, 1, 1)."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator, self.nz = generator, generator.latent_shape[0]

    def forward(self, z: Tensor) -> Tensor:
        return self.generator(z.flatten(1))


def deepinv_csgm(lr: float, case: InversionCase, watch: InversionClock) -> None:
    """deepinv's `CSGMGenerator`, which inverts one image at a time from one start; in rounds, as long as there is time.

    Raises:
        ImportError: there is no deepinv.
    """
    from deepinv.models import CSGMGenerator  # pyright: ignore[reportMissingImports]
    from deepinv.physics import Denoising  # pyright: ignore[reportMissingImports]

    torch.manual_seed(case.seed)  # it has no seed of its own
    model = CSGMGenerator(_Backbone(case.generator), inf_lr=lr, inf_tol=0.0, inf_max_iter=STEPS).eval()
    x = case.generator.latents(len(case.targets), case.seed)
    value = torch.full((len(x),), torch.inf)
    while True:
        for index in range(len(x)):
            y = case.targets[index : index + 1]
            z = model.optimize_z(model.random_latent(y.device), y, Denoising()).detach().flatten(1)
            with torch.no_grad():
                value[index] = (case.generator(z) - y).square().mean()
            x[index] = z[0]
            if watch.see(x, value):
                return


STEPS = 300
"""Steps per start. With the default of 2,500 not all 16 targets fit into the time; its tolerance stops too early."""
SIZES = tuple((lr, 1) for lr in (0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 1.0))
RESTARTED = tuple((lr, steps) for lr in (0.03, 0.1, 0.3) for steps in (100, 300))
"""Step sizes, and steps per start."""
REFERENCES: dict[str, InversionMethod] = {
    method.name: method
    for method in (
        InversionMethod("a hand-written Adam loop", lambda lr, _: partial(hand_written, lr), SIZES),
        InversionMethod(
            "a hand-written Adam loop with restarts",
            lambda lr, steps: partial(hand_written_restarts, lr, steps),
            RESTARTED,
            (0.1, 300),
        ),
        InversionMethod("deepinv CSGM", lambda lr, _: partial(deepinv_csgm, lr), SIZES),
    )
}
