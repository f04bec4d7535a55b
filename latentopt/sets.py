"""Feasible sets: where the optimised input may be. Each owns its projection and its random point.

Bounds and centres are numbers, or tensors with a leading batch dimension (of size 1 or B).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from latentopt.draws import Draws
from latentopt.errors import InputError
from latentopt.samples import per_sample, sample_norm


class FeasibleSet(ABC):
    """A closed convex set of inputs, one for each sample of a batch."""

    @abstractmethod
    def project(self, x: Tensor) -> Tensor:
        """The point of the set nearest to ``x`` (rows, *features) in the Euclidean norm."""

    @abstractmethod
    def sample(self, like: Tensor, draws: Draws) -> Tensor:
        """A random point of the set in the shape, dtype and device of ``like`` (rows, *features)."""

    @abstractmethod
    def take(self, rows: Tensor) -> FeasibleSet:
        """The sets of the samples ``rows`` (long)."""


@dataclass(frozen=True)
class Free(FeasibleSet):
    """The whole space; random points are normal with standard deviation ``scale``."""

    scale: float = 1.0

    def project(self, x: Tensor) -> Tensor:
        return x

    def sample(self, like: Tensor, draws: Draws) -> Tensor:
        return self.scale * draws.normal(like, "start")

    def take(self, rows: Tensor) -> Free:
        return self


@dataclass(frozen=True, eq=False)
class Box(FeasibleSet):
    """``low <= x <= high``, elementwise; random points are uniform.

    >>> Box(-1.0, 1.0).project(torch.tensor([[-3.0, 0.5]]))
    tensor([[-1.0000,  0.5000]])
    """

    low: float | Tensor
    high: float | Tensor

    def __post_init__(self) -> None:
        low, high = torch.as_tensor(self.low), torch.as_tensor(self.high)
        if not bool((low <= high).all()):
            raise InputError("Box", "low <= high everywhere", f"low {self.low}, high {self.high}")

    def project(self, x: Tensor) -> Tensor:
        return x.clamp(*self._bounds(x))

    def sample(self, like: Tensor, draws: Draws) -> Tensor:
        low, high = self._bounds(like)
        return self.project(low + (high - low) * draws.uniform(like, "start"))

    def _bounds(self, like: Tensor) -> tuple[Tensor, Tensor]:
        low, high = (torch.as_tensor(b, dtype=like.dtype, device=like.device) for b in (self.low, self.high))
        return low, high

    def take(self, rows: Tensor) -> Box:
        return Box(_take(self.low, rows), _take(self.high, rows))


@dataclass(frozen=True, eq=False)
class LinfBall(FeasibleSet):
    """``max |x - center| <= eps``: ``center`` (B, *features), ``eps`` >= 0 a number or (B,); random points uniform."""

    center: Tensor
    eps: float | Tensor

    def __post_init__(self) -> None:
        _check_eps(self.eps)

    def project(self, x: Tensor) -> Tensor:
        eps = per_sample(self.eps, x)
        return torch.minimum(torch.maximum(x, self.center - eps), self.center + eps)

    def sample(self, like: Tensor, draws: Draws) -> Tensor:
        return self.project(self.center + per_sample(self.eps, like) * (2 * draws.uniform(like, "start") - 1))

    def take(self, rows: Tensor) -> LinfBall:
        return LinfBall(_take(self.center, rows), _take(self.eps, rows))


@dataclass(frozen=True, eq=False)
class L2Ball(FeasibleSet):
    """``||x - center||_2 <= eps``: ``center`` (B, *features), ``eps`` >= 0 a number or (B,); random points uniform."""

    center: Tensor
    eps: float | Tensor

    def __post_init__(self) -> None:
        _check_eps(self.eps)

    def project(self, x: Tensor) -> Tensor:
        offset = x - self.center
        norm = per_sample(sample_norm(offset), x)
        return self.center + offset * (per_sample(self.eps, x) / norm.clamp_min(torch.finfo(x.dtype).tiny)).clamp_max(
            1.0
        )

    def sample(self, like: Tensor, draws: Draws) -> Tensor:
        direction = draws.normal(like, "start")
        direction = direction / per_sample(sample_norm(direction), like)
        reach = draws.uniform(like.flatten(1)[:, 0], "reach") ** (1 / like[0].numel())
        return self.center + per_sample(self.eps, like) * per_sample(reach, like) * direction

    def take(self, rows: Tensor) -> L2Ball:
        return L2Ball(_take(self.center, rows), _take(self.eps, rows))


@dataclass(frozen=True, eq=False)
class BoxAndBall(FeasibleSet):
    """The points of a box that lie in a ball; the ball's centre must lie in the box, so the set is not empty."""

    box: Box
    ball: LinfBall | L2Ball

    def __post_init__(self) -> None:
        if not torch.equal(self.box.project(self.ball.center), self.ball.center):
            raise InputError("center", "a point of the box", "one outside")

    def project(self, x: Tensor) -> Tensor:
        if isinstance(self.ball, LinfBall):  # an intersection of boxes: coordinate by coordinate
            return self.box.project(self.ball.project(x))
        return self._project_l2(x)

    def _project_l2(self, x: Tensor) -> Tensor:
        # KKT: the nearest point is clip((x + lam c) / (1 + lam)) with the smallest lam >= 0 that reaches the ball;
        # in w = 1 / (1 + lam) its distance to c grows with w, so bisection finds it.
        center, eps = self.ball.center, per_sample(self.ball.eps, x)

        def at(w: Tensor) -> Tensor:
            return self.box.project(center + w * (x - center))

        def distance(y: Tensor) -> Tensor:
            return per_sample(sample_norm(y - center), x)

        low, high = torch.zeros_like(distance(x)), torch.ones_like(distance(x))
        inside = distance(at(high)) <= eps
        for _ in range(60):
            middle = (low + high) / 2
            short = distance(at(middle)) <= eps
            low, high = torch.where(short, middle, low), torch.where(short, high, middle)
        return torch.where(inside, self.box.project(x), at(low))

    def sample(self, like: Tensor, draws: Draws) -> Tensor:
        return self.project(self.ball.sample(like, draws))

    def take(self, rows: Tensor) -> BoxAndBall:
        return BoxAndBall(self.box.take(rows), self.ball.take(rows))


def _check_eps(eps: float | Tensor) -> None:
    if not bool((torch.as_tensor(eps) >= 0).all()):
        raise InputError("eps", "a number >= 0", eps)


def _take(bound, rows: Tensor):
    return bound[rows] if isinstance(bound, Tensor) and bound.ndim and len(bound) > 1 else bound
