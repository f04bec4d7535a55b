"""The points that a box and a ball have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self, get_args

import torch
from torch import Tensor

from latentopt.arguments import Values, checked
from latentopt.batch_math import per_sample, sample_norm, unit
from latentopt.errors import InputError
from latentopt.noise import Noise
from latentopt.sets.balls import L2Ball, LinfBall
from latentopt.sets.base import FeasibleSet, Norm
from latentopt.sets.bounds import check_shapes
from latentopt.sets.box import Box


@checked
@dataclass(frozen=True, eq=False)
class BoxAndBall(FeasibleSet):
    """The points of a box that lie in a ball.

    Args:
        box: bounds.
        ball: its centre must lie in the box, so the set is not empty.

    Raises:
        InputError: the centre lies outside the box, or the shapes do not fit each other.
    """

    bounded = True

    box: Box
    ball: LinfBall | L2Ball

    def __post_init__(self) -> None:
        center = self.ball.center
        low, high = (b.to(center) if isinstance(b, Tensor) else b for b in (self.box.low, self.box.high))
        for name, bound in (("Box.low", low), ("Box.high", high)):
            check_shapes(name, "center", bound, center)
        if not bool(((low <= center) & (center <= high)).all()):
            raise InputError("center", "a point of the box", "one outside")

    @property
    def norm(self) -> Norm:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The norm of the ball."""
        return self.ball.norm

    @property
    def round(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """True if the ball is Euclidean."""
        return self.ball.round

    def broadcast_to(self, shape: Sequence[int], like: Tensor) -> Self:
        box, ball = self.box.broadcast_to(shape, like), self.ball.broadcast_to(shape, like)
        return self if box is self.box and ball is self.ball else type(self)(box, ball)

    def project(self, x: Tensor) -> Tensor:
        own = self._broadcast_for(x)
        return own._project_l2(x, own.ball) if isinstance(own.ball, L2Ball) else x.clamp(*own._bounds)

    @cached_property
    def _bounds(self) -> tuple[Tensor, Tensor]:
        """The bounds of the box within an l-infinity ball, both broadcast to a batch."""
        assert isinstance(self.ball, LinfBall)
        like = self.ball.center
        low, high = (
            torch.as_tensor(bound, dtype=like.dtype, device=like.device) for bound in (self.box.low, self.box.high)
        )
        ball_low, ball_high = self.ball.bounds
        return ball_low.clamp(low, high), ball_high.clamp(low, high)

    def _project_l2(self, x: Tensor, ball: L2Ball) -> Tensor:
        # KKT: the nearest point is clip(c + w (x - c)), with w <= 1 as great as the ball allows.
        nearest, distance = self.box.project(x), ball.distance(x)
        inside = ball.distance(nearest) <= ball.radius(x)
        return torch.where(inside, nearest, self._farthest(unit(x - ball.center), distance, ball))

    def _farthest(self, direction: Tensor, w_max: Tensor, ball: L2Ball) -> Tensor:
        """The point ``clip(c + w direction)`` with the greatest ``w <= w_max`` that the ball allows."""
        eps, pace = ball.radius(direction), direction.abs()

        def point(w: Tensor) -> Tensor:
            return self.box.project(ball.center + w * direction)

        # As w grows, the box stops one coordinate after the other at its room. Computed with the stopped ones known so
        # far, w is never too great: it only rises, until no other coordinate stops.
        room = (point(w_max) - ball.center).abs()
        w, moving = torch.zeros_like(w_max), torch.ones_like(pace, dtype=torch.bool)
        while bool(moving.any()):
            spent = per_sample(sample_norm(room.masked_fill(moving, 0)), w)
            left = (eps - spent).clamp_min(0).sqrt() * (eps + spent).sqrt()  # no squares: half precision ends early
            speed = per_sample(sample_norm(pace * moving), w).clamp_min(torch.finfo(w.dtype).tiny)
            w = torch.maximum(w, torch.minimum(left / speed, w_max))
            stops = moving & (w * pace >= room)
            if not bool(stops.any()):
                break
            moving = moving & ~stops
        return ball.pull_inside(point(w), self.box)

    def sample(self, like: Tensor, noise: Noise) -> Tensor:
        return self.project(self.ball.sample(like, noise))

    def take(self, rows: Tensor) -> BoxAndBall:
        return BoxAndBall(self.box.take(rows), self.ball.take(rows))

    def radius(self, like: Tensor) -> Tensor:
        return self.ball.radius(like)

    def lmo(self, grad: Tensor) -> Tensor:
        own = self._broadcast_for(grad)
        if isinstance(own.ball, LinfBall):
            return own.box.project(own.ball.lmo(grad))
        # KKT: the least is at clip(c - w g), with w as great as the ball allows, or any great w where it never binds.
        w_max = own.ball.radius(grad) * 1e17 * torch.ones_like(own.ball.distance(grad))
        return own._farthest(-unit(grad), w_max, own.ball)


@checked
def bounded_ball(center: Values, eps: Values, norm: Norm, low: Values, high: Values) -> BoxAndBall:
    """Return the intersection of a ball and a range of values.

    Args:
        center: of the ball, within the range, as the module says.
        eps: radius of the ball, >= 0, a number or (B,).
        norm: linf or l2.
        low: least value.
        high: greatest value.

    Returns:
        The set of x in [low, high] with ``norm(x - center) <= eps``.

    Raises:
        InputError: there is no such norm, or an argument is not as `Box` and the balls want it.
    """
    if norm not in get_args(Norm):
        raise InputError("norm", f"one of {', '.join(get_args(Norm))}", repr(norm))
    return BoxAndBall(Box(low, high), (LinfBall if norm == "linf" else L2Ball)(center, eps))


def length(change: Tensor, norm: Norm) -> Tensor:
    """Return the ``norm`` (B,) of each sample of ``change`` (B, *features)."""
    return change.reshape(len(change), -1).abs().amax(1) if norm == "linf" else sample_norm(change)
