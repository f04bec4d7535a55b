"""Feasible sets: where the optimised input may be. Each owns its projection and its random point.

Bounds and centres are numbers, or tensors, arrays or lists of numbers: in the shape of one input, (*features), for
every sample alike, or with a batch axis in front, (1 or B, *features). Axes of length 1 are repeated: (3, 1, 1) is a
number for each channel of images (3, H, W), and (B, 1, 1, 1) one for each of B images. A shape that has as many axes as
one input is the input's own: (3,) belongs to the three coordinates of inputs of shape (3,), also in a batch of three.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Self, TypeVar, get_args

import torch
from torch import Tensor

from latentopt.batch_math import per_sample, sample_norm, unit
from latentopt.errors import InputError, nonnegative, positive
from latentopt.noise import Noise
from latentopt.sets.bounds import Values, as_values, broadcast, broadcast_radius

Norm = Literal["linf", "l2"]
S = TypeVar("S", bound="FeasibleSet")


class FeasibleSet(ABC):
    """A closed set of inputs, one for each sample of a batch; convex, but for spheres."""

    @abstractmethod
    def project(self, x: Tensor) -> Tensor:
        """The point of the set nearest to ``x`` (rows, *features) in the Euclidean norm."""

    @abstractmethod
    def sample(self, like: Tensor, draws: Noise) -> Tensor:
        """A random point of the set in the shape, dtype and device of ``like`` (rows, *features)."""

    @abstractmethod
    def take(self, rows: Tensor) -> FeasibleSet:
        """The sets of the samples ``rows`` (long), of a set for a batch (`broadcast_to`)."""

    def broadcast_to(self, shape: Sequence[int], like: Tensor) -> Self:
        """The same set for inputs ``shape`` (B, *features), its tensors (1 or B, *features); itself where it is so.

        They get the dtype and device of ``like``. `latentopt.Problem` does this once; the other methods do it for the
        inputs that they are given.

        Raises:
            InputError: a tensor fits neither one input nor the batch.
        """
        return self

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
    def lmo(self, grad: Tensor) -> Tensor:
        """The point of the set with the least inner product with ``grad`` (rows, *features).

        Raises:
            InputError: the set is not bounded.
        """

    def _of(self, x: Tensor) -> Self:
        """The set for the inputs ``x`` (rows, *features), which it remembers: it is asked at every step."""
        key = x.shape, x.dtype, x.device
        if self.__dict__.get("_fits") == key:
            return self
        own = self.broadcast_to(x.shape, x)
        object.__setattr__(own, "_fits", key)
        return own

    @property
    def bounded(self) -> bool:
        """Whether it is a bounded box or ball, or one within the other: its radius is then the scale of a step."""
        return False

    @property
    def round(self) -> bool:
        """Whether it is a Euclidean ball: steps scaled coordinate by coordinate end beside its optimum."""
        return False

    def steepest(self, grad: Tensor) -> Tensor:
        """The step of norm 1 along which a function with this gradient (rows, *features) rises most."""
        return grad.sign() if self.norm == "linf" else unit(grad)


@dataclass(frozen=True)
class Free(FeasibleSet):
    """The whole space; random points are normal with standard deviation ``scale``."""

    scale: float = 1.0

    def __post_init__(self) -> None:
        nonnegative("Free.scale", self.scale)

    def project(self, x: Tensor) -> Tensor:
        return x

    def sample(self, like: Tensor, draws: Noise) -> Tensor:
        return self.scale * draws.normal(like, "start")

    def take(self, rows: Tensor) -> Free:
        return self

    @property
    def norm(self) -> Norm:
        return "l2"

    def radius(self, like: Tensor) -> Tensor:
        return torch.as_tensor(self.scale * like[0].numel() ** 0.5, dtype=like.dtype, device=like.device)

    def lmo(self, grad: Tensor) -> Tensor:
        raise InputError("feasible", "a bounded set", "the whole space")


@dataclass(frozen=True, eq=False, init=False)
class Box(FeasibleSet):
    """``low <= x <= high``, elementwise; random points are uniform.

    Args:
        low: least value, as the module says; minus infinity: none.
        high: greatest value; infinity: none.

    Raises:
        InputError: they are no numbers, of shapes that do not fit, NaN, or ``low`` exceeds ``high`` somewhere.

    >>> Box([-1.0, 0.0], 1.0).project(torch.tensor([[-3.0, 0.5], [0.5, -3.0]]))
    tensor([[-1.0000,  0.5000],
            [ 0.5000,  0.0000]])
    """

    low: float | Tensor
    high: float | Tensor

    def __init__(self, low: Values, high: Values) -> None:
        object.__setattr__(self, "low", as_values("Box.low", low))
        object.__setattr__(self, "high", as_values("Box.high", high))
        _check_order(self.low, self.high)

    def broadcast_to(self, shape: Sequence[int], like: Tensor) -> Self:
        low, high = broadcast("Box.low", self.low, shape, like), broadcast("Box.high", self.high, shape, like)
        return self if low is self.low and high is self.high else _with(self, low=low, high=high)

    def project(self, x: Tensor) -> Tensor:
        if isinstance(self.low, Tensor) or isinstance(self.high, Tensor):
            return x.clamp(*self._bounds(x))
        return x.clamp(self.low, self.high)

    def sample(self, like: Tensor, draws: Noise) -> Tensor:
        low, high = self._bounds(like)
        if not self.bounded:
            raise InputError("feasible", "a bounded set for random points, or a start", "a box that is open somewhere")
        return self.project(low + (high - low) * draws.uniform(like, "start"))

    def _bounds(self, like: Tensor) -> tuple[Tensor, Tensor]:
        own = self._of(like)
        low, high = (torch.as_tensor(b, dtype=like.dtype, device=like.device) for b in (own.low, own.high))
        return low, high

    def take(self, rows: Tensor) -> Box:
        return Box(_take(self.low, rows), _take(self.high, rows))

    @property
    def bounded(self) -> bool:
        return all(bool(torch.as_tensor(bound).isfinite().all()) for bound in (self.low, self.high))

    @property
    def norm(self) -> Norm:
        return "linf"

    def radius(self, like: Tensor) -> Tensor:
        low, high = self._bounds(like)
        return (high - low) / 2

    def lmo(self, grad: Tensor) -> Tensor:
        low, high = self._bounds(grad)
        if not self.bounded:
            raise InputError("feasible", "a bounded set", "a box that is open somewhere")
        return torch.where(grad > 0, low, high).expand_as(grad)


@dataclass(frozen=True, eq=False, init=False)
class LinfBall(FeasibleSet):
    """``max |x - center| <= eps``; random points are uniform.

    Args:
        center: as the module says.
        eps: >= 0, a number or (B,); or one for each feature, (1 or B, *features).

    Raises:
        InputError: they are no numbers, or not finite, or ``eps`` is negative.
    """

    center: Tensor
    eps: float | Tensor

    def __init__(self, center: Values, eps: Values) -> None:
        object.__setattr__(self, "center", _center(center))
        object.__setattr__(self, "eps", _radius(eps))

    def broadcast_to(self, shape: Sequence[int], like: Tensor) -> Self:
        center = _broadcast_center(self.center, shape, like)
        eps = broadcast_radius("eps", self.eps, shape, like, by_feature=True)
        return self if center is self.center and eps is self.eps else _with(self, center=center, eps=eps)

    @cached_property
    def _bounds(self) -> tuple[Tensor, Tensor]:
        """The lowest and the highest point of a set broadcast to a batch, so that both measure ``eps`` at most."""
        center, eps = self.center, self._multiplying(self.eps, self.center)
        low, high, one = center - eps, center + eps, 0.75 * torch.finfo(center.dtype).eps  # moves to the next number
        low = torch.where(center - low > eps, (low + one * low.abs()).minimum(center), low)
        return low, torch.where(high - center > eps, (high - one * high.abs()).maximum(center), high)

    def project(self, x: Tensor) -> Tensor:
        low, high = self._of(x)._bounds
        return torch.minimum(torch.maximum(x, low), high)

    def sample(self, like: Tensor, draws: Noise) -> Tensor:
        return self.project(self._of(like).center + self.radius(like) * (2 * draws.uniform(like, "start") - 1))

    def take(self, rows: Tensor) -> LinfBall:
        return LinfBall(_take(self.center, rows), _take(self.eps, rows))

    @property
    def bounded(self) -> bool:
        return True

    @property
    def norm(self) -> Norm:
        return "linf"

    def radius(self, like: Tensor) -> Tensor:
        return self._multiplying(self._of(like).eps, like)

    def _multiplying(self, eps: float | Tensor, like: Tensor) -> Tensor:
        return eps if isinstance(eps, Tensor) and eps.ndim > 1 else per_sample(eps, like)

    def lmo(self, grad: Tensor) -> Tensor:
        own = self._of(grad)
        low, high = own._bounds
        return torch.where(grad > 0, low, torch.where(grad < 0, high, own.center))


@dataclass(frozen=True, eq=False, init=False)
class L2Ball(FeasibleSet):
    """``||x - center||_2 <= eps``; random points are uniform.

    Args:
        center: as the module says.
        eps: >= 0, a number or (B,).

    Raises:
        InputError: they are no numbers, or not finite, or ``eps`` is negative.
    """

    center: Tensor
    eps: float | Tensor

    def __init__(self, center: Values, eps: Values) -> None:
        object.__setattr__(self, "center", _center(center))
        object.__setattr__(self, "eps", _radius(eps))

    def broadcast_to(self, shape: Sequence[int], like: Tensor) -> Self:
        center = _broadcast_center(self.center, shape, like)
        eps = broadcast_radius("eps", self.eps, shape, like, by_feature=False)
        return self if center is self.center and eps is self.eps else _with(self, center=center, eps=eps)

    def project(self, x: Tensor) -> Tensor:
        center, eps, distance = self._of(x).center, self.radius(x), self.distance(x)
        nearest = center + (x - center) * (eps / distance.clamp_min(torch.finfo(x.dtype).tiny))
        return torch.where(distance <= eps, x, self.fitted(nearest))

    def fitted(self, x: Tensor, box: FeasibleSet = Free()) -> Tensor:
        """``x`` of ``box``, pulled towards the centre where rounding has put it outside the ball.

        So a projection lies in the ball exactly, and to project it again does not move it.
        """
        center = self._of(x).center
        pull = torch.finfo(x.dtype).eps  # doubles, so that it ends at the centre at the latest
        while bool((outside := self.distance(x) > self.radius(x)).any()):
            x = torch.where(outside, box.project(center + (1 - pull) * (x - center)), x)
            pull *= 2
        return x

    def distance(self, x: Tensor) -> Tensor:
        """From the centre to ``x`` (rows, *features), in a shape that multiplies it."""
        return per_sample(sample_norm(x - self._of(x).center), x)

    def sample(self, like: Tensor, draws: Noise) -> Tensor:
        direction = draws.normal(like, "start")
        direction = direction / per_sample(sample_norm(direction), like)
        reach = draws.uniform(like.flatten(1)[:, 0], "reach") ** (1 / like[0].numel())
        return self._of(like).center + self.radius(like) * per_sample(reach, like) * direction

    def take(self, rows: Tensor) -> L2Ball:
        return L2Ball(_take(self.center, rows), _take(self.eps, rows))

    @property
    def bounded(self) -> bool:
        return True

    @property
    def round(self) -> bool:
        return True

    @property
    def norm(self) -> Norm:
        return "l2"

    def radius(self, like: Tensor) -> Tensor:
        return per_sample(self._of(like).eps, like)

    def lmo(self, grad: Tensor) -> Tensor:
        return self._of(grad).center - self.radius(grad) * unit(grad)


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

    def sample(self, like: Tensor, draws: Noise) -> Tensor:
        return self.project(draws.normal(like, "start"))

    def take(self, rows: Tensor) -> Sphere:
        return self

    @property
    def norm(self) -> Norm:
        return "l2"

    def radius(self, like: Tensor) -> Tensor:
        return torch.as_tensor(self.size, dtype=like.dtype, device=like.device)

    def lmo(self, grad: Tensor) -> Tensor:
        return -self.size * unit(grad)


@dataclass(frozen=True, eq=False)
class BoxAndBall(FeasibleSet):
    """The points of a box that lie in a ball; the ball's centre must lie in the box, so the set is not empty."""

    box: Box
    ball: LinfBall | L2Ball

    def __post_init__(self) -> None:
        center = self.ball.center
        low, high = (b.to(center) if isinstance(b, Tensor) else b for b in (self.box.low, self.box.high))
        for name, bound in (("Box.low", low), ("Box.high", high)):
            _check_shapes(name, "center", bound, center)
        if not bool(((low <= center) & (center <= high)).all()):
            raise InputError("center", "a point of the box", "one outside")

    def broadcast_to(self, shape: Sequence[int], like: Tensor) -> Self:
        box, ball = self.box.broadcast_to(shape, like), self.ball.broadcast_to(shape, like)
        return self if box is self.box and ball is self.ball else type(self)(box, ball)

    def project(self, x: Tensor) -> Tensor:
        own = self._of(x)
        return own._project_l2(x, own.ball) if isinstance(own.ball, L2Ball) else x.clamp(*own._bounds)

    @cached_property
    def _bounds(self) -> tuple[Tensor, Tensor]:
        """Of the box that a box and an l-infinity ball have in common, both broadcast to a batch."""
        assert isinstance(self.ball, LinfBall)
        like = self.ball.center
        ends = (self.box.low, self.box.high)
        low, high = (torch.as_tensor(end, dtype=like.dtype, device=like.device) for end in ends)
        least, most = self.ball._bounds
        return least.clamp(low, high), most.clamp(low, high)

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
            spent = per_sample(sample_norm(room.masked_fill(moving, 0)), w)
            left = (eps - spent).clamp_min(0).sqrt() * (eps + spent).sqrt()  # no squares: half precision ends early
            speed = per_sample(sample_norm(pace * moving), w).clamp_min(torch.finfo(w.dtype).tiny)
            w = torch.maximum(w, torch.minimum(left / speed, most))
            stops = moving & (w * pace >= room)
            if not bool(stops.any()):
                break
            moving = moving & ~stops
        return ball.fitted(at(w), self.box)

    def sample(self, like: Tensor, draws: Noise) -> Tensor:
        return self.project(self.ball.sample(like, draws))

    def take(self, rows: Tensor) -> BoxAndBall:
        return BoxAndBall(self.box.take(rows), self.ball.take(rows))

    @property
    def bounded(self) -> bool:
        return True

    @property
    def round(self) -> bool:
        return self.ball.round

    @property
    def norm(self) -> Norm:
        return self.ball.norm

    def radius(self, like: Tensor) -> Tensor:
        return self.ball.radius(like)

    def lmo(self, grad: Tensor) -> Tensor:
        own = self._of(grad)
        if isinstance(own.ball, LinfBall):
            return own.box.project(own.ball.lmo(grad))
        # KKT: the least is at clip(c - w g), with w as great as the ball allows, or any great w where it never binds.
        most = own.ball.radius(grad) * 1e17 * torch.ones_like(own.ball.distance(grad))
        return own._farthest(-unit(grad), most, own.ball)


def around(center: Values, eps: Values, norm: Norm, low: Values, high: Values) -> BoxAndBall:
    """The points of the range [low, high] within ``eps`` of ``center``, which is in the range; as `Box` and balls."""
    if norm not in get_args(Norm):
        raise InputError("norm", f"one of {', '.join(get_args(Norm))}", repr(norm))
    return BoxAndBall(Box(low, high), (LinfBall if norm == "linf" else L2Ball)(center, eps))


def length(change: Tensor, norm: Norm) -> Tensor:
    """The norm (B,) of each sample of ``change`` (B, *features)."""
    return change.reshape(len(change), -1).abs().amax(1) if norm == "linf" else sample_norm(change)


def _center(values: Values) -> Tensor:
    center = torch.as_tensor(as_values("center", values), dtype=None if isinstance(values, Tensor) else torch.float64)
    if not bool(center.isfinite().all()):
        raise InputError("center", "finite numbers", "NaN or infinity")
    return center


def _broadcast_center(center: Tensor, shape: Sequence[int], like: Tensor) -> Tensor:
    """(1 or B, *features)."""
    center = torch.as_tensor(broadcast("center", center, shape, like))
    return center if center.ndim == len(shape) else center.expand(1, *shape[1:])


def _radius(values: Values) -> float | Tensor:
    eps = as_values("eps", values)
    each = torch.as_tensor(eps).flatten()
    wrong = each[~((each >= 0) & each.isfinite())]
    if len(wrong):
        raise InputError("eps", "a finite number >= 0", wrong[0].item())
    return eps


def _check_shapes(name: str, other: str, one: float | Tensor, two: float | Tensor) -> None:
    """Raise `InputError` where two tensors cannot be of the same inputs."""
    shapes = [tuple(each.shape) for each in (one, two) if isinstance(each, Tensor)]
    try:
        torch.broadcast_shapes(*shapes)
    except RuntimeError as error:
        raise InputError(name, f"a shape that fits that of {other}, {shapes[1]}", f"shape {shapes[0]}") from error


def _check_order(low: float | Tensor, high: float | Tensor) -> None:
    """Raise `InputError` unless ``low <= high`` everywhere, and a number lies between."""
    if isinstance(low, Tensor) and isinstance(high, Tensor):
        high = high.to(low.device)
    _check_shapes("Box.low", "high", low, high)
    right = torch.as_tensor((low <= high) & (low < torch.inf) & (high > -torch.inf))
    if not bool(right.all()):
        at = (~right).nonzero()[0].tolist()
        least, most = (torch.as_tensor(b).expand(right.shape)[tuple(at)].item() for b in (low, high))
        where = f" at {at}" if at else ""
        raise InputError("Box", "low <= high everywhere", f"low {least:g}, high {most:g}{where}")


def _with(feasible: S, **values: float | Tensor) -> S:
    """The set with other values, which are known to be right."""
    changed = copy.copy(feasible)
    vars(changed).pop("_fits", None)
    for name, value in values.items():
        object.__setattr__(changed, name, value)
    return changed


def _take(values, rows: Tensor):
    return values[rows] if isinstance(values, Tensor) and values.ndim and len(values) > 1 else values
