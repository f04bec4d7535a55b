"""L-BFGS (Liu and Nocedal 1989) for each sample by itself: one evaluation a step, its line search kept in the state.

In a set it is a projected quasi-Newton method (Bertsekas 1982): it works in the face of the set on which a sample is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from latentopt.arguments import checked
from latentopt.batch_math import per_sample, sample_norm, where_rows
from latentopt.errors import positive, within
from latentopt.optimizers.base import Cost, Optimizer, Step
from latentopt.problem import Batch
from latentopt.sets import BoxAndBall, FeasibleSet, Free

FLAT = 1e-10
"""Pairs (s, y) of a cosine up to this carry no curvature."""


class LBFGSState(NamedTuple):
    x: Tensor  # (B, *shape) the last accepted point
    value: Tensor  # (B,) objective there; inf before the first
    grad: Tensor  # (B, *shape) gradient there
    tangential: Tensor  # (B, n) gradient of the Lagrangian there, without the part out of a ball
    direction: Tensor  # (B, *shape) of the search from there
    length: Tensor  # (B,) of the trial under way, in units of the direction
    s: Tensor  # (B, min(memory, n), n) steps between accepted points, the newest last; zero where there are none yet
    y: Tensor  # (B, memory, n) changes of `tangential`


@checked
@dataclass(frozen=True)
class LBFGS(Optimizer):
    """L-BFGS, quasi-Newton descent with a line search for each sample.

    The iterate is a trial. If it lowers the objective enough (Armijo), it is accepted, and the next trial is the full
    quasi-Newton step from it. Else, also if the objective or its gradient is not finite, the next trial is a shorter
    step from the last accepted point. A sample whose trials get too short forgets its pairs and goes downhill.

    In a bounded set, trials are projected, and directions lie in the face of the accepted point: coordinates held by a
    bound do not enter, nor does the direction out of a ball.

    Args:
        memory: number of steps remembered, >= 1; at most the number of coordinates.
        c1: share of the decrease promised by the slope that a trial must reach, in (0, 1/2).
        first: length of the first trial, > 0, in units of the set's Euclidean radius (in the whole space, of a random
            point's typical norm).
    """

    recovers = True

    memory: int = 20
    c1: float = 1e-4
    first: float = 0.2

    def __post_init__(self) -> None:
        positive("LBFGS.memory", self.memory, integer=True)
        positive("LBFGS.first", self.first)
        within("LBFGS.c1", self.c1, 0, 0.5, "()")

    def init(self, batch: Batch, x: Tensor) -> LBFGSState:
        zero, size = torch.zeros_like(x), x[0].numel()
        pairs = x.new_zeros(len(x), min(self.memory, size), size)
        value = torch.full_like(x.flatten(1)[:, 0], torch.inf, dtype=torch.promote_types(x.dtype, torch.float32))
        return LBFGSState(x, value, zero, zero.flatten(1), zero, x.new_zeros(len(x)), pairs, pairs)

    def step(self, batch: Batch, x: Tensor, state: LBFGSState) -> Step:
        evaluation, grad = batch.gradient(x)
        value, slope = evaluation.value.to(state.value), _dot(state.grad, x - state.x)
        finite = value.isfinite() & sample_norm(grad).isfinite()
        accepted = finite & (value <= state.value + self.c1 * slope.clamp_max(0))
        first = self.first * _radius(batch.feasible, x)
        accept = self._accept(batch, x, value, grad, state, first)
        shorter = self._shorten(value, slope, state, first)
        state = _choose(accepted, accept, shorter)
        next_x = batch.feasible.project(state.x + per_sample(state.length, x) * state.direction)
        return Step(next_x, state, evaluation, Cost(1, 1), {"grad_norm": sample_norm(grad), "accepted": accepted.to(x)})

    def _accept(
        self, batch: Batch, x: Tensor, value: Tensor, grad: Tensor, state: LBFGSState, first: Tensor
    ) -> LBFGSState:
        """Return the state of samples whose trial is accepted."""
        face = face_at(batch.feasible, x, grad)
        tangential = grad.flatten(1) - face.outward(grad.flatten(1))
        s, y, later = (x - state.x).flatten(1), tangential - state.tangential, state.value.isfinite()
        longest = torch.where(later, 2 * s.norm(dim=1), first)
        noise = 10 * torch.finfo(x.dtype).eps ** (2 / 3) * sample_norm(grad)  # of a face's normal
        informative = later & (_dot(s, y) > FLAT * s.norm(dim=1) * y.norm(dim=1)) & (y.norm(dim=1) > noise)
        s, y = (
            torch.where(informative[:, None, None], _append(old, new), old) for old, new in ((state.s, s), (state.y, y))
        )
        down, scaled = inverse_hessian(tangential, face.tangent(s), face.tangent(y))
        length = torch.where(scaled, 1.0, longest / _not_zero(down.norm(dim=1)))
        return LBFGSState(x, value, grad, tangential, -down.reshape(x.shape), length, s, y)

    def _shorten(self, value: Tensor, slope: Tensor, state: LBFGSState, first: Tensor) -> LBFGSState:
        """Return the state of samples whose trial is rejected."""
        # The minimum of the parabola through both values with the slope at the accepted point.
        share = -slope / (2 * (value - state.value - slope))
        length = state.length * torch.where(share.isfinite(), share.clamp(0.1, 0.5), 0.1).to(slope)
        shortest = torch.finfo(slope.dtype).eps * torch.maximum(sample_norm(state.x), first)
        lost = length * sample_norm(state.direction) <= shortest
        downhill = state._replace(
            direction=-state.grad,
            length=torch.finfo(slope.dtype).eps ** (1 / 3) * first / _not_zero(sample_norm(state.grad)),
            s=torch.zeros_like(state.s),
            y=torch.zeros_like(state.y),
        )
        return _choose(lost, downhill, state._replace(length=length))


class Face(NamedTuple):
    """The part of a set's border that holds a sample."""

    free: Tensor  # (B, n) 1, or 0 where a bound holds the coordinate
    normal: Tensor  # (B, n) unit vector out of a ball that holds the sample; zero where none does

    def outward(self, v: Tensor) -> Tensor:
        """The part of ``v`` (B, n) along the normal."""
        return (v * self.normal).sum(1, keepdim=True) * self.normal

    def tangent(self, v: Tensor) -> Tensor:
        """The part of each ``v`` (B, memory, n) along the face."""
        v, normal = v * self.free[:, None], self.normal[:, None]
        return v - (v * normal).sum(2, keepdim=True) * normal


def face_at(feasible: FeasibleSet, x: Tensor, grad: Tensor) -> Face:
    """Find the face by projecting a tiny step downhill."""
    tiny = torch.finfo(x.dtype).eps ** (1 / 3) * _radius(feasible, x)  # rounding is small beside it
    stepped = x - per_sample(tiny / _not_zero(sample_norm(grad)), x) * grad
    back = feasible.project(stepped)
    free = 1 - _held(feasible, x, stepped, back).to(x.dtype).flatten(1)
    normal = (stepped - back).flatten(1) * free
    size = normal.norm(dim=1)
    curved = (size > 1e-3 * tiny) & (feasible.norm == "l2")  # else it is rounding, or a coordinate close to its bound
    return Face(free, torch.where(curved[:, None], normal / _not_zero(size)[:, None], 0.0))


def _held(feasible: FeasibleSet, x: Tensor, stepped: Tensor, back: Tensor) -> Tensor:
    """Return which coordinates (B, *shape) a bound holds against a step, which projection takes ``back``."""
    if feasible.norm == "linf":
        return (back == x) & (stepped != x)
    # Where only a ball holds x, a coordinate may come back exactly by chance; and points that rounding puts outside a
    # ball are pulled in, off bounds too.
    box = feasible.box if isinstance(feasible, BoxAndBall) else Free()
    rounding = 16 * torch.finfo(x.dtype).eps * (x.abs() + feasible.radius(x))
    return (box.project(stepped) == x) & (stepped != x) & ((back - x).abs() <= rounding)


def inverse_hessian(grad: Tensor, s: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the inverse Hessian times ``grad`` (B, n), and whether any of the pairs (B, memory, n) scaled it (B,).

    The two loops over the pairs (Nocedal 1980) are two triangular systems in ``s_i . y_j`` (Byrd, Nocedal and Schnabel
    1994), solved at once for all pairs; pairs without curvature are left out.
    """
    dtype = grad.dtype
    grad, s, y = (t.to(torch.promote_types(dtype, torch.float32)) for t in (grad, s, y))  # what triangular systems take
    sy = (s * y).sum(2)
    informative = sy > FLAT * s.norm(dim=2) * y.norm(dim=2)
    s, y, sy = s * informative[..., None], y * informative[..., None], torch.where(informative, sy, 0.0)
    newest = (informative * torch.arange(1, s.shape[1] + 1, device=s.device)).argmax(1, keepdim=True)
    length = y.square().sum(2).gather(1, newest)[:, 0]
    scale = torch.where(length > 0, sy.gather(1, newest)[:, 0] / _not_zero(length), 1.0)[:, None]
    products = torch.triu(s @ y.mT) + torch.diag_embed((~informative).to(s))
    alpha = torch.linalg.solve_triangular(products, s @ grad[..., None], upper=True)
    q = scale * (grad - (y.mT @ alpha)[..., 0])
    rest = sy[..., None] * alpha - y @ q[..., None]
    q = q + (s.mT @ torch.linalg.solve_triangular(products.mT, rest, upper=False))[..., 0]
    return q.to(dtype), informative.any(1)


def _radius(feasible: FeasibleSet, x: Tensor) -> Tensor:
    """Return the Euclidean norm (B,) of a vector as long as the set's radius; an infinite one counts 1 a coordinate."""
    radius = feasible.radius(x).expand_as(x)
    norm = sample_norm(radius.where(radius.isfinite(), 1.0))
    return norm if feasible.norm == "linf" else norm / x[0].numel() ** 0.5


def _append(old: Tensor, new: Tensor) -> Tensor:
    return torch.cat([old[:, 1:], new[:, None]], 1)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1)


def _not_zero(norm: Tensor) -> Tensor:
    return norm.clamp_min(torch.finfo(norm.dtype).tiny)


def _choose(rows: Tensor, chosen: LBFGSState, others: LBFGSState) -> LBFGSState:
    """Select states of the samples ``rows`` (B,) from the first, of the others from the second."""
    return LBFGSState(*(where_rows(rows, a, b) for a, b in zip(chosen, others, strict=True)))
