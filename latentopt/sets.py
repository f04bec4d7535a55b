"""Feasible sets: where the optimised input may be. Each owns its projection and its random point.

Bounds and centres are numbers, or tensors with a leading batch dimension (of size 1 or B).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from latentopt.draws import Draws
from latentopt.errors import InputError, positive
from latentopt.samples import per_sample, sample_norm, unit

Norm = Literal["linf", "l2"]


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

    @property
    @abstractmethod
    def norm(self) -> Norm:
        """The norm whose unit ball the set is closest to; steps are measured in it."""

    @abstractmethod
    def radius(self, like: Tensor) -> Tensor:
        """How far the set reaches from its centre in that norm, for step sizes; multiplies ``like`` (rows, *features).

        Half the width of a box, by coordinate; ``eps`` of a ball; of the whole space, a random point's typical norm.
        """

    @abstractmethod
    def extreme(self, grad: Tensor) -> Tensor:
        """The point of the set with the least inner product with ``grad`` (rows, *features).

        Raises:
            InputError: the set is not bounded.
        """

    def steepest(self, grad: Tensor) -> Tensor:
        """The step of norm 1 along which a function with this gradient (rows, *features) rises most."""
        return grad.sign() if self.norm == "linf" else unit(grad)


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

    @property
    def norm(self) -> Norm:
        return "l2"

    def radius(self, like: Tensor) -> Tensor:
        return torch.as_tensor(self.scale * like[0].numel() ** 0.5, dtype=like.dtype, device=like.device)

    def extreme(self, grad: Tensor) -> Tensor:
        raise InputError("feasible", "a bounded set", "the whole space")


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
        if isinstance(self.low, Tensor) or isinstance(self.high, Tensor):
            return x.clamp(*self._bounds(x))
        return x.clamp(self.low, self.high)

    def sample(self, like: Tensor, draws: Draws) -> Tensor:
        low, high = self._bounds(like)
        return self.project(low + (high - low) * draws.uniform(like, "start"))

    def _bounds(self, like: Tensor) -> tuple[Tensor, Tensor]:
        low, high = (torch.as_tensor(b, dtype=like.dtype, device=like.device) for b in (self.low, self.high))
        return low, high

    def take(self, rows: Tensor) -> Box:
        return Box(_take(self.low, rows), _take(self.high, rows))

    @property
    def norm(self) -> Norm:
        return "linf"

    def radius(self, like: Tensor) -> Tensor:
        low, high = self._bounds(like)
        return (high - low) / 2

    def extreme(self, grad: Tensor) -> Tensor:
        low, high = self._bounds(grad)
        if not bool((low.isfinite() & high.isfinite()).all()):
            raise InputError("feasible", "a bounded set", "a box that is open somewhere")
        return torch.where(grad > 0, low, high).expand_as(grad)


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

    @property
    def norm(self) -> Norm:
        return "linf"

    def radius(self, like: Tensor) -> Tensor:
        return per_sample(self.eps, like)

    def extreme(self, grad: Tensor) -> Tensor:
        return self.center - self.radius(grad) * grad.sign()


@dataclass(frozen=True, eq=False)
class L2Ball(FeasibleSet):
    """``||x - center||_2 <= eps``: ``center`` (B, *features), ``eps`` >= 0 a number or (B,); random points uniform."""

    center: Tensor
    eps: float | Tensor

    def __post_init__(self) -> None:
        _check_eps(self.eps)

    def project(self, x: Tensor) -> Tensor:
        eps, distance = self.radius(x), self.distance(x)
        nearest = self.center + (x - self.center) * (eps / distance.clamp_min(torch.finfo(x.dtype).tiny))
        return torch.where(distance <= eps, x, self.fitted(nearest))

    def fitted(self, x: Tensor, box: FeasibleSet = Free()) -> Tensor:
        """``x`` of ``box``, pulled towards the centre where rounding has put it outside the ball.

        So a projection lies in the ball exactly, and to project it again does not move it.
        """
        pull = torch.finfo(x.dtype).eps  # doubles, so that it ends at the centre at the latest
        while bool((outside := self.distance(x) > self.radius(x)).any()):
            x = torch.where(outside, box.project(self.center + (1 - pull) * (x - self.center)), x)
            pull *= 2
        return x

    def distance(self, x: Tensor) -> Tensor:
        """From the centre to ``x`` (rows, *features), in a shape that multiplies it."""
        return per_sample(sample_norm(x - self.center), x)

    def sample(self, like: Tensor, draws: Draws) -> Tensor:
        direction = draws.normal(like, "start")
        direction = direction / per_sample(sample_norm(direction), like)
        reach = draws.uniform(like.flatten(1)[:, 0], "reach") ** (1 / like[0].numel())
        return self.center + per_sample(self.eps, like) * per_sample(reach, like) * direction

    def take(self, rows: Tensor) -> L2Ball:
        return L2Ball(_take(self.center, rows), _take(self.eps, rows))

    @property
    def norm(self) -> Norm:
        return "l2"

    def radius(self, like: Tensor) -> Tensor:
        return per_sample(self.eps, like)

    def extreme(self, grad: Tensor) -> Tensor:
        return self.center - self.radius(grad) * unit(grad)


@dataclass(frozen=True)
class Sphere(FeasibleSet):
    """The points at distance ``size`` > 0 from the origin, where high-dimensional normal latents lie; not convex."""

    size: float

    def __post_init__(self) -> None:
        positive("Sphere.size", self.size)

    def project(self, x: Tensor) -> Tensor:
        direction = unit(x)
        lost = per_sample(sample_norm(direction) == 0, x).bool()
        return self.size * unit(torch.where(lost, torch.ones_like(x), direction))

    def sample(self, like: Tensor, draws: Draws) -> Tensor:
        return self.project(draws.normal(like, "start"))

    def take(self, rows: Tensor) -> Sphere:
        return self

    @property
    def norm(self) -> Norm:
        return "l2"

    def radius(self, like: Tensor) -> Tensor:
        return torch.as_tensor(self.size, dtype=like.dtype, device=like.device)

    def extreme(self, grad: Tensor) -> Tensor:
        return -self.size * unit(grad)


@dataclass(frozen=True, eq=False)
class BoxAndBall(FeasibleSet):
    """The points of a box that lie in a ball; the ball's centre must lie in the box, so the set is not empty."""

    box: Box
    ball: LinfBall | L2Ball

    def __post_init__(self) -> None:
        if not torch.equal(self.box.project(self.ball.center), self.ball.center):
            raise InputError("center", "a point of the box", "one outside")

    def project(self, x: Tensor) -> Tensor:
        if isinstance(self.ball, LinfBall):
            return x.clamp(*self._bounds)
        return self._project_l2(x, self.ball)

    @cached_property
    def _bounds(self) -> tuple[Tensor, Tensor]:
        """Of the box that a box and an l-infinity ball have in common."""
        center, eps = self.ball.center, self.ball.radius(self.ball.center)
        return self.box.project(center - eps), self.box.project(center + eps)

    def _project_l2(self, x: Tensor, ball: L2Ball) -> Tensor:
        # KKT: the nearest point is clip(c + w (x - c)), with w <= 1 as great as the ball allows.
        nearest, distance = self.box.project(x), ball.distance(x)
        inside = ball.distance(nearest) <= ball.radius(x)
        return torch.where(inside, nearest, self._farthest(unit(x - ball.center), distance, ball))

    def _farthest(self, direction: Tensor, most: Tensor, ball: L2Ball) -> Tensor:
        """The point ``clip(c + w direction)`` with the greatest ``w <= most`` that the ball allows."""
        eps, pace = ball.radius(direction), direction.abs()

        def at(w: Tensor) -> Tensor:
            return self.box.project(ball.center + w * direction)

        # As w grows, the box stops one coordinate after the other at its room. Computed with the stopped ones known so
        # far, w is never too great: it only rises, until no other coordinate stops.
        room = (at(most) - ball.center).abs()
        w, moving = torch.zeros_like(most), torch.ones_like(pace, dtype=torch.bool)
        while bool(moving.any()):
            left = eps.square() - per_sample(sample_norm(room.masked_fill(moving, 0)), w).square()
            speed = per_sample(sample_norm(pace * moving), w).clamp_min(torch.finfo(w.dtype).tiny)
            w = torch.maximum(w, torch.minimum(left.clamp_min(0).sqrt() / speed, most))
            stops = moving & (w * pace >= room)
            if not bool(stops.any()):
                break
            moving = moving & ~stops
        return ball.fitted(at(w), self.box)

    def sample(self, like: Tensor, draws: Draws) -> Tensor:
        return self.project(self.ball.sample(like, draws))

    def take(self, rows: Tensor) -> BoxAndBall:
        return BoxAndBall(self.box.take(rows), self.ball.take(rows))

    @property
    def norm(self) -> Norm:
        return self.ball.norm

    def radius(self, like: Tensor) -> Tensor:
        return self.ball.radius(like)

    def extreme(self, grad: Tensor) -> Tensor:
        if isinstance(self.ball, LinfBall):
            return self.box.project(self.ball.extreme(grad))
        # KKT: the least is at clip(c - w g), with w as great as the ball allows, or any great w where it never binds.
        most = self.ball.radius(grad) * 1e17 * torch.ones_like(self.ball.distance(grad))
        return self._farthest(-unit(grad), most, self.ball)


def around(center: Tensor, eps: float | Tensor, norm: Norm, low: float, high: float) -> BoxAndBall:
    """The points of the range [low, high] within ``eps`` of ``center`` (B, *features), which is in the range."""
    return BoxAndBall(Box(low, high), (LinfBall if norm == "linf" else L2Ball)(center, eps))


def length(change: Tensor, norm: Norm) -> Tensor:
    """The norm (B,) of each sample of ``change`` (B, *features)."""
    return change.reshape(len(change), -1).abs().amax(1) if norm == "linf" else sample_norm(change)


def _check_eps(eps: float | Tensor) -> None:
    each = torch.as_tensor(eps)
    if not bool(((each >= 0) & each.isfinite()).all()):
        raise InputError("eps", "a finite number >= 0", eps)


def _take(bound, rows: Tensor):
    return bound[rows] if isinstance(bound, Tensor) and bound.ndim and len(bound) > 1 else bound
