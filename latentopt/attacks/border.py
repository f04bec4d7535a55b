"""Where the nearest border of a class would be if a classifier were affine (DeepFool's step, arXiv 1511.04599)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from latentopt.attacks.inputs import width
from latentopt.attacks.result import AttackResult
from latentopt.batch_math import sample_norm
from latentopt.networks.classifier import range_of
from latentopt.networks.freezing import frozen
from latentopt.problem import Problem
from latentopt.sets import Norm, bounded_ball, length
from latentopt.solver.rows import as_rows

CLASSES = 9
"""So many other classes are looked at, the most likely ones; each costs a gradient."""
BEYOND = 1e-3
"""By what share of the radius the point lies beyond the border."""
HALVINGS = 20
UNKNOWN = 0.01
"""The share of the range's width that a distance is taken for where the gradient is zero: longer steps would wander."""


class Border(NamedTuple):
    """The nearest border as the gradients at the clean inputs have it."""

    x: Tensor  # (B, *shape) just beyond it, in the range of inputs
    radius: Tensor  # (B,) of the least ball that reaches it, > 0; where none does the widest
    cost: int  # forwards and backwards of each sample


@dataclass(frozen=True, eq=False)
class _Lead:
    """By how much (B,) the logits of ``labels`` exceed those of ``others``."""

    labels: Tensor  # (B,) long
    others: Tensor  # (B,) long

    def __call__(self, logits: Tensor) -> Tensor:
        own, other = (logits.gather(1, classes[:, None])[:, 0] for classes in (self.labels, self.others))
        return own - other

    def take(self, rows: Tensor) -> _Lead:
        return _Lead(self.labels[rows], self.others[rows])


def nearest_border(model: Callable[[Tensor], Tensor], clean: AttackResult, norm: Norm) -> Border:
    """The nearest border of clean inputs that are not misclassified yet, over the classes that would be a success.

    Args:
        model: as in `latentopt.attack`.
        clean: its result at a radius of 0.
        norm: of the distances.
    """
    x = clean.clean
    labels, aims = _aims(clean)
    radius, towards = torch.full_like(clean.eps, torch.inf), torch.zeros_like(x)
    ends, widest = range_of(model), min(width(model, x, norm), torch.finfo(x.dtype).max / 4)  # doubled it is finite
    for aim in aims:
        lead, grad = _lead(model, x, labels, aim)
        reach = _reach(x, lead, grad, norm, ends, widest)
        towards = torch.where(as_rows(reach < radius, x), grad, towards)
        radius = radius.minimum(reach)
    radius = _usable(model, x, radius, norm)
    radius = (radius * (1 + BEYOND)).clamp(max=width(model, x, norm))
    return Border(bounded_ball(x, radius, norm, *ends).lmo(towards), radius, len(aims))


def steepness(model: Callable[[Tensor], Tensor], clean: AttackResult, confidence: float) -> tuple[Tensor, Tensor]:
    """How far the border of the likeliest other class is in L2 (B,) as its gradient has it, and the lead there (B,).

    One forward and backward. The distance is > 0 and finite, where the gradient is zero `UNKNOWN`; the lead is that of
    `nearest_border`, and the confidence.
    """
    labels, aims = _aims(clean)
    lead, grad = _lead(model, clean.clean, labels, aims[0])
    lead = lead + confidence
    distance = lead / sample_norm(grad)
    flat = ~distance.isfinite()
    return _usable(model, clean.clean, distance, "l2") * torch.where(flat, UNKNOWN, 1.0).to(lead), lead


def _aims(clean: AttackResult) -> tuple[Tensor, list[Tensor]]:
    """What the clean inputs are (B,), and the classes (B,) that would be a success, the likeliest first."""
    logits = clean.clean_logits
    labels = logits.argmax(1) if clean.targeted else clean.labels
    order = logits.scatter(1, labels[:, None], -torch.inf).argsort(1, descending=True)[:, :-1]
    return labels, [clean.target] if clean.targeted else list(order[:, :CLASSES].T)


def _lead(model: Callable[[Tensor], Tensor], x: Tensor, labels: Tensor, aim: Tensor) -> tuple[Tensor, Tensor]:
    problem = Problem(model, _Lead(labels, aim), x.shape[1:], len(x), like=x)
    with frozen(model):
        here, grad = problem.gradient(x)
    return here.value.to(x), grad


def _usable(model: Callable[[Tensor], Tensor], x: Tensor, radius: Tensor, norm: Norm) -> Tensor:
    """The radius (B,), where it is none the widest, at least what the rounding of inputs leaves of it."""
    radius = torch.where(radius.isfinite(), radius, _widest(model, x, norm))
    return radius.maximum(torch.finfo(x.dtype).eps * length(x, norm)).clamp_min(torch.finfo(x.dtype).tiny)


def _reach(x: Tensor, lead: Tensor, grad: Tensor, norm: Norm, ends: tuple[float, float], widest: float) -> Tensor:
    """The radius (B,), <= ``widest``, of the least ball in which an affine function of value ``lead`` comes down to 0.

    Infinity: there is none.
    """
    slope = grad.reshape(len(grad), -1).abs().sum(1) if norm == "linf" else sample_norm(grad)
    least = (lead / slope).clamp_min(0)  # the box can only make it more
    least = torch.where(least.isfinite(), least, 0).clamp(max=widest)

    def left(radius: Tensor) -> Tensor:
        """The least value in the ball."""
        lowest = bounded_ball(x, radius, norm, *ends).lmo(grad)
        return lead + (grad * (lowest - x)).flatten(1).sum(1)

    most = least.clone()
    rounding = max(1e-6, torch.finfo(x.dtype).eps) * lead.abs()
    for _ in range(HALVINGS):
        short = left(most) > rounding
        if not bool(short.any()):
            break
        least, most = torch.where(short, most, least), torch.where(short, 2 * most, most).clamp(max=widest)
    none = left(most) > rounding
    for _ in range(HALVINGS if bool((most > least).any()) else 0):
        middle = (least + most) / 2
        short = left(middle) > rounding
        least, most = torch.where(short, middle, least), torch.where(short, most, middle)
    return most.masked_fill(none, torch.inf)


def _widest(model: Callable[[Tensor], Tensor], x: Tensor, norm: Norm) -> Tensor:
    """The width of the range (), or where it is open the size (B,) of the inputs, or 1."""
    widest = torch.as_tensor(width(model, x, norm), dtype=x.dtype, device=x.device)
    if bool(widest.isfinite()):
        return widest
    size = length(x, norm)
    return torch.where(size > 0, size, 1)
