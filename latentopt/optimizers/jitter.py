"""Noise that is added to latents while they are searched (Karras et al. 2020, arXiv 1912.04958, appendix D)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from latentopt.arguments import checked
from latentopt.errors import nonnegative, within
from latentopt.optimizers.adam import Adam
from latentopt.optimizers.base import Descent, State
from latentopt.problem import Batch
from latentopt.sets import FeasibleSet


class JitterState(NamedTuple):
    t: int  # steps done
    x: Tensor  # (B, *shape), the point without noise
    inner: State  # of the descent


@checked
@dataclass(frozen=True)
class Jitter(Descent):
    """A descent whose gradients are taken at noisy points, as in StyleGAN2's projector.

    The iterates are the noisy points, so each is evaluated exactly; after the noise they are the descent's own.

    Args:
        descent: method that needs one gradient a step.
        std: standard deviation of the noise at the start, >= 0, as a multiple of the typical distance of a latent from
            the mean (of one layer's style in w+); of sets without a mean, of their radius.
        phase: share of the planned steps, in (0, 1], after which there is no noise. It falls as ``(1 - t / end)^2``.
    """

    descent: Descent = field(default_factory=lambda: Adam(lr=0.1, schedule="ramp"))
    std: float = 0.05
    phase: float = 0.75

    def __post_init__(self) -> None:
        nonnegative("Jitter.std", self.std)
        within("Jitter.phase", self.phase, 0, 1, "(]")

    def init(self, batch: Batch, x: Tensor) -> JitterState:
        return JitterState(0, x, self.descent.init(batch, x))

    def update(self, batch: Batch, x: Tensor, grad: Tensor, state: JitterState) -> tuple[Tensor, JitterState]:
        t = state.t + 1
        point, inner = self.descent.update(batch, state.x, grad, state.inner)
        remaining = max(0.0, 1 - t / (self.phase * batch.steps))
        noisy = point
        if remaining:
            std = self.std * remaining**2 * jitter_scale(batch.feasible, x)
            noisy = batch.feasible.project(point + std * batch.noise.normal(x, "jitter", t))
        return noisy, JitterState(t, point, inner)


def jitter_scale(feasible: FeasibleSet, like: Tensor) -> Tensor:
    """Return the unit of the noise in a set, broadcastable to ``like`` (rows, *features)."""
    own = getattr(feasible, "jitter_scale", None)
    return feasible.radius(like) if own is None else own(like)
