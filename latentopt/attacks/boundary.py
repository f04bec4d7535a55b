"""The nearest decision boundary of a classifier taken as affine (DeepFool's step, arXiv 1511.04599)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from latentopt.attacks.checks import MaskedNetwork, free_range, range_width
from latentopt.attacks.goal import rank_other_classes
from latentopt.attacks.result import AttackResult
from latentopt.batch_math import sample_norm, where_rows
from latentopt.networks.classifier import Range
from latentopt.networks.freezing import frozen
from latentopt.problem import Problem
from latentopt.sets import Norm, bounded_ball, length

CLASSES = 9
"""Number of other classes whose boundaries are looked at, the likeliest ones; each costs a gradient."""
OVERSHOOT = 1e-3
"""Share of the radius by which the returned point lies beyond the boundary."""
DOUBLINGS = 20
FLAT_SHARE = 0.01
"""Distance taken where the gradient is zero, as a share of the range's width: longer steps would wander."""


class BoundaryEstimate(NamedTuple):
    """The nearest decision boundary, as the gradients at the clean inputs show it."""

    x: Tensor  # (B, *shape) just beyond it, in the range of inputs
    radius: Tensor  # (B,) of the smallest ball that reaches it, > 0; the width of the range where none does
    cost: int  # forwards and backwards of each sample


@dataclass(frozen=True, eq=False)
class _LogitGap:
    """Difference (B,) between the logits of two classes."""

    labels: Tensor  # (B,) long
    others: Tensor  # (B,) long

    def __call__(self, logits: Tensor) -> Tensor:
        own, other = (logits.gather(1, classes[:, None])[:, 0] for classes in (self.labels, self.others))
        return own - other

    def take(self, rows: Tensor) -> _LogitGap:
        return _LogitGap(self.labels[rows], self.others[rows])


def find_nearest_boundary(
    model: Callable[[Tensor], Tensor], clean: AttackResult, norm: Norm, mask: Tensor | None = None
) -> BoundaryEstimate:
    """Estimate the nearest boundary over all classes that would be a success.

    ``clean`` is the result of an attack of radius 0 on the model; ``mask`` (B, *shape) says which features may change.
    """
    x = clean.clean
    network = model if mask is None else MaskedNetwork(model, x, mask)
    labels, others = _boundary_classes(clean)
    radius, direction = torch.full_like(clean.eps, torch.inf), torch.zeros_like(x)
    ends, widest = free_range(model, x, mask), min(range_width(model, x, norm), torch.finfo(x.dtype).max / 4)
    for other in others:
        gap, grad = _logit_gap(network, x, labels, other)
        distance = _box_distance(x, gap, grad, norm, ends, widest)
        direction = where_rows(distance < radius, grad, direction)
        radius = radius.minimum(distance)
    radius = _usable_radius(model, x, radius, norm)
    radius = (radius * (1 + OVERSHOOT)).clamp(max=range_width(model, x, norm))
    return BoundaryEstimate(bounded_ball(x, radius, norm, *ends).lmo(direction), radius, len(others))


def estimate_boundary_distance(
    model: Callable[[Tensor], Tensor], clean: AttackResult, confidence: float
) -> tuple[Tensor, Tensor]:
    """Estimate the L2 distance (B,) to the boundary of the likeliest other class, by one gradient.

    Return it, > 0 and finite, and the gap in logits (B,) that it closes, ``confidence`` beyond the boundary.
    """
    labels, others = _boundary_classes(clean)
    gap, grad = _logit_gap(model, clean.clean, labels, others[0])
    gap = gap + confidence
    distance = gap / sample_norm(grad)
    flat = ~distance.isfinite()
    return _usable_radius(model, clean.clean, distance, "l2") * torch.where(flat, FLAT_SHARE, 1.0).to(gap), gap


def _boundary_classes(clean: AttackResult) -> tuple[Tensor, list[Tensor]]:
    """Return the classes (B,) of the clean inputs, and those (B,) that would be a success, the likeliest first."""
    labels = clean.clean_logits.argmax(1) if clean.targeted else clean.labels
    if clean.targeted:
        return labels, [clean.target]
    return labels, list(rank_other_classes(clean.clean_logits, labels)[:, :CLASSES].T)


def _logit_gap(model: Callable[[Tensor], Tensor], x: Tensor, labels: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gap (B,) between the logits of two classes (B,), and its gradient (B, *shape)."""
    problem = Problem(model, _LogitGap(labels, others), x.shape[1:], len(x), like=x)
    with frozen(model):
        evaluation, grad = problem.whole().gradient(x)
    return evaluation.value.to(x), grad


def _usable_radius(model: Callable[[Tensor], Tensor], x: Tensor, radius: Tensor, norm: Norm) -> Tensor:
    """Return radii (B,) that are finite and at least what the rounding of inputs leaves of them."""
    radius = torch.where(radius.isfinite(), radius, _finite_width(model, x, norm))
    return radius.maximum(torch.finfo(x.dtype).eps * length(x, norm)).clamp_min(torch.finfo(x.dtype).tiny)


def _finite_width(model: Callable[[Tensor], Tensor], x: Tensor, norm: Norm) -> Tensor:
    """Return the width of the range (), or where it is open the length (B,) of the inputs, 1 where that is 0."""
    width = torch.as_tensor(range_width(model, x, norm), dtype=x.dtype, device=x.device)
    if bool(width.isfinite()):
        return width
    size = length(x, norm)
    return torch.where(size > 0, size, 1)


def _box_distance(x: Tensor, gap: Tensor, grad: Tensor, norm: Norm, ends: Range, widest: float) -> Tensor:
    """Return the radius (B,) of the smallest ball in which ``gap + grad . d`` reaches 0 within the range.

    The radius is found by doubling and bisection, <= ``widest``; infinity where no ball reaches 0.
    """
    slope = grad.reshape(len(grad), -1).abs().sum(1) if norm == "linf" else sample_norm(grad)
    low = (gap / slope).clamp_min(0)  # the box can only make it more
    low = torch.where(low.isfinite(), low, 0).clamp(max=widest)

    def least_gap(radius: Tensor) -> Tensor:
        lowest = bounded_ball(x, radius, norm, *ends).lmo(grad)
        return gap + (grad * (lowest - x)).flatten(1).sum(1)

    high = low.clone()
    rounding = max(1e-6, torch.finfo(x.dtype).eps) * gap.abs()
    for _ in range(DOUBLINGS):
        short = least_gap(high) > rounding
        if not bool(short.any()):
            break
        low, high = torch.where(short, high, low), torch.where(short, 2 * high, high).clamp(max=widest)
    unreached = least_gap(high) > rounding
    for _ in range(DOUBLINGS if bool((high > low).any()) else 0):
        middle = (low + high) / 2
        short = least_gap(middle) > rounding
        low, high = torch.where(short, middle, low), torch.where(short, high, middle)
    return high.masked_fill(unreached, torch.inf)
