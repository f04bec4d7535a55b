"""Balls around a centre, and spheres around the origin."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from latentopt.arguments import Values, as_values
from latentopt.batch_math import cpu_tensor, per_sample, sample_norm, unit, where_rows
from latentopt.errors import InputError, positive
from latentopt.noise import Noise
from latentopt.sets.base import FeasibleSet
from latentopt.sets.bounds import broadcast, broadcast_radius, take_rows


@dataclass(frozen=True, eq=False, init=False)
class _Ball(FeasibleSet):
    """The points within ``eps`` of a centre."""

    bounded = True

    center: Tensor
    eps: float | Tensor

    def __init__(self, center: Values, eps: Values) -> None:
        object.__setattr__(self, "center", _finite_center(center))
        object.__setattr__(self, "eps", _finite_radius(eps))

    def broadcast_to(self, shape: Sequence[int], like: Tensor) -> Self:
        center = cpu_tensor(broadcast("center", self.center, shape, like))
        center = center if center.ndim == len(shape) else center.expand(1, *shape[1:])
        return self._with(center=center, eps=broadcast_radius("eps", self.eps, shape, like, by_feature=not self.round))

    def take(self, rows: Tensor) -> Self:
        return self._with(center=take_rows(self.center, rows), eps=take_rows(self.eps, rows))


class LinfBall(_Ball):
    """The points ``max |x - center| <= eps``; random points are uniform.

    Args:
        center: (*features) or (1 or B, *features), as `latentopt.sets` describes.
        eps: >= 0, a number or (B,); or one for each feature, (1 or B, *features).

    Raises:
        InputError: they are no numbers, or not finite, or ``eps`` is negative.
    """

    norm = "linf"

    @cached_property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """The lowest and the highest point of a set broadcast to a batch; both are at most ``eps`` from the centre."""
        center, eps = self.center, _multiplying(self.eps, self.center)
        low, high, one = center - eps, center + eps, 0.75 * torch.finfo(center.dtype).eps  # moves to the next number
        low = torch.where(center - low > eps, (low + one * low.abs()).minimum(center), low)
        return low, torch.where(high - center > eps, (high - one * high.abs()).maximum(center), high)

    def project(self, x: Tensor) -> Tensor:
        low, high = self._broadcast_for(x).bounds
        return torch.minimum(torch.maximum(x, low), high)

    def sample(self, like: Tensor, noise: Noise) -> Tensor:
        center = self._broadcast_for(like).center
        return self.project(center + self.radius(like) * (2 * noise.uniform(like, "start") - 1))

    def radius(self, like: Tensor) -> Tensor:
        return _multiplying(self._broadcast_for(like).eps, like)

    def lmo(self, grad: Tensor) -> Tensor:
        own = self._broadcast_for(grad)
        low, high = own.bounds
        return torch.where(grad > 0, low, torch.where(grad < 0, high, own.center))


class _RoundBall(_Ball):
    """A ball in a norm that is no maximum over the coordinates."""

    norm = "l2"
    round = True

    @abstractmethod
    def distance(self, x: Tensor) -> Tensor:
        """Return the distance from the centre to ``x`` (rows, *features), (rows, 1, ..., 1)."""

    def radius(self, like: Tensor) -> Tensor:
        return per_sample(self._broadcast_for(like).eps, like)

    def pull_inside(self, x: Tensor, box: FeasibleSet | None = None) -> Tensor:
        """Pull points, of a box if one is given, towards the centre where rounding has put them outside the ball.

        So a projection lies in the ball exactly, and to project it again does not move it.
        """
        center = self._broadcast_for(x).center
        pull = torch.finfo(x.dtype).eps  # doubles, so that it ends at the centre at the latest
        while bool((outside := self.distance(x) > self.radius(x)).any()):
            pulled = center + (1 - pull) * (x - center)
            x = torch.where(outside, pulled if box is None else box.project(pulled), x)
            pull *= 2
        return x


class L2Ball(_RoundBall):
    """The points ``||x - center||_2 <= eps``; random points are uniform.

    Args:
        center: (*features) or (1 or B, *features), as `latentopt.sets` describes.
        eps: >= 0, a number or (B,).

    Raises:
        InputError: they are no numbers, or not finite, or ``eps`` is negative.
    """

    def project(self, x: Tensor) -> Tensor:
        center, eps, distance = self._broadcast_for(x).center, self.radius(x), self.distance(x)
        nearest = center + (x - center) * (eps / distance.clamp_min(torch.finfo(x.dtype).tiny))
        return torch.where(distance <= eps, x, self.pull_inside(nearest))

    def distance(self, x: Tensor) -> Tensor:
        return per_sample(sample_norm(x - self._broadcast_for(x).center), x)

    def sample(self, like: Tensor, noise: Noise) -> Tensor:
        direction = noise.normal(like, "start")
        direction = direction / per_sample(sample_norm(direction), like)
        radius = noise.uniform(like.flatten(1)[:, 0], "reach") ** (1 / like[0].numel())
        return self._broadcast_for(like).center + self.radius(like) * per_sample(radius, like) * direction

    def lmo(self, grad: Tensor) -> Tensor:
        return self._broadcast_for(grad).center - self.radius(grad) * unit(grad)


class L1Ball(_RoundBall):
    """The points ``||x - center||_1 <= eps``, few coordinates of which are far away; random points are uniform.

    Args:
        center: (*features) or (1 or B, *features), as `latentopt.sets` describes.
        eps: >= 0, a number or (B,).

    Raises:
        InputError: they are no numbers, or not finite, or ``eps`` is negative.
    """

    def project(self, x: Tensor) -> Tensor:
        center, eps = self._broadcast_for(x).center, self.radius(x)
        away = x - center
        sizes = away.abs().flatten(1).sort(1, descending=True).values
        # Soft thresholding (Duchi et al. 2008): the largest count whose mean excess is below its smallest size.
        count = torch.arange(1, sizes.shape[1] + 1, dtype=x.dtype, device=x.device)
        excess = (sizes.cumsum(1) - eps.reshape(-1, 1)) / count
        last = (sizes > excess).sum(1, keepdim=True).clamp_min(1) - 1
        threshold = per_sample(excess.gather(1, last)[:, 0], x)
        nearest = center + away.sign() * (away.abs() - threshold).clamp_min(0)
        return torch.where(self.distance(x) <= eps, x, self.pull_inside(nearest))

    def distance(self, x: Tensor) -> Tensor:
        return per_sample((x - self._broadcast_for(x).center).abs().flatten(1).sum(1), x)

    def sample(self, like: Tensor, noise: Noise) -> Tensor:
        signed = 2 * noise.uniform(like, "start") - 1
        direction = -signed.sign() * torch.log1p(-signed.abs())  # of exponential size
        direction = direction / per_sample(direction.abs().flatten(1).sum(1), like)
        reach = noise.uniform(like.flatten(1)[:, 0], "reach") ** (1 / like[0].numel())
        random = self._broadcast_for(like).center + self.radius(like) * per_sample(reach, like) * direction
        return self.project(random)

    def lmo(self, grad: Tensor) -> Tensor:
        flat = grad.flatten(1)
        largest = flat.abs().argmax(1, keepdim=True)
        corner = torch.zeros_like(flat).scatter(1, largest, flat.gather(1, largest).sign()).reshape(grad.shape)
        return self._broadcast_for(grad).center - self.radius(grad) * corner


@dataclass(frozen=True)
class Sphere(FeasibleSet):
    """The points at one distance from the origin, where high-dimensional normal latents lie; not convex.

    Args:
        size: the distance, > 0.
    """

    norm = "l2"

    size: float

    def __post_init__(self) -> None:
        positive("Sphere.size", self.size)

    def project(self, x: Tensor) -> Tensor:
        direction = unit(x)
        is_zero = sample_norm(direction) == 0
        return self.size * unit(where_rows(is_zero, torch.ones_like(x), direction))

    def sample(self, like: Tensor, noise: Noise) -> Tensor:
        return self.project(noise.normal(like, "start"))

    def take(self, rows: Tensor) -> Sphere:
        return self

    def radius(self, like: Tensor) -> Tensor:
        return torch.as_tensor(self.size, dtype=like.dtype, device=like.device)

    def lmo(self, grad: Tensor) -> Tensor:
        return -self.size * unit(grad)


def _multiplying(eps: float | Tensor, like: Tensor) -> Tensor:
    """A radius for each sample or feature in a shape that multiplies ``like``."""
    return eps if isinstance(eps, Tensor) and eps.ndim > 1 else per_sample(eps, like)


def _finite_center(values: Values) -> Tensor:
    center = as_values("center", values)
    center = center if isinstance(center, Tensor) else torch.tensor(center, dtype=torch.float64, device="cpu")
    if not bool(center.isfinite().all()):
        raise InputError("center", "finite numbers", "NaN or infinity")
    return center


def _finite_radius(values: Values) -> float | Tensor:
    eps = as_values("eps", values)
    flat = cpu_tensor(eps).flatten()
    wrong = flat[~((flat >= 0) & flat.isfinite())]
    if len(wrong):
        raise InputError("eps", "a finite number >= 0", wrong[0].item())
    return eps
