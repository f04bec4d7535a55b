"""The smallest perturbation that fools a classifier, found by bisection of the radius."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from latentopt.classification import Misclassify
from latentopt.errors import InputError, positive
from latentopt.networks import frozen
from latentopt.problem import Problem
from latentopt.rows import as_rows
from latentopt.samples import sample_norm
from latentopt.sets import Norm
from latentopt.tasks.adversarial import Adversarial
from latentopt.tasks.attack import attack
from latentopt.tasks.inputs import width


def minimum_norm(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    *,
    norm: Norm = "linf",
    rounds: int = 12,
    targeted: bool = False,
    **settings: Any,
) -> Adversarial:
    """Find the smallest radius at which each input can be misclassified.

    The first radius tried is where the border would be if the network were affine. As long as none has succeeded the
    radius doubles; then it is bisected. Each round starts from the nearest adversarial input of the rounds before,
    brought into the smaller ball.

    Args:
        model, x, y, norm, targeted: as in `latentopt.attack`.
        rounds: attacks, one radius each, >= 1. Each one after the first success halves the interval.
        settings: anything else that `latentopt.attack` takes; by default ``pgd`` on the margin, 50 steps.

    Returns:
        As of `latentopt.attack`; ``eps`` is the distance of what was found, the least of all rounds, or where nothing
        was found the greatest radius tried. Costs are those of all rounds. A radius is an upper bound: that an attack
        fails at a smaller one does not show that there is nothing.

    Raises:
        InputError: as `latentopt.attack`.

    >>> model = lambda x: torch.stack([x[:, 0], x[:, 1]], 1)
    >>> minimum_norm(model, torch.tensor([[0.75, 0.5]]), torch.tensor([0])).eps
    tensor([0.1251])
    """
    positive("rounds", rounds, integer=True)
    for name in ("eps", "start"):
        if name in settings:
            raise InputError(name, "nothing here", settings[name])
    settings = {"norm": norm, "targeted": targeted, "optimizer": "pgd", **settings}
    if settings["optimizer"] == "pgd":
        settings = {"loss": "margin", "steps": 50, **settings}
    best = attack(model, x, y, 0.0, **settings)  # whatever is wrong already
    clean, widest = best.x, width(model, best.x, norm)
    found = torch.zeros_like(best.eps).masked_fill(~best.success, torch.inf)
    failed = torch.zeros_like(found)
    radius = _to_the_border(model, best, y.to(best.target), norm).clamp(max=widest).masked_fill(best.success, 0)
    for _ in range(rounds):
        now = attack(model, clean, y, radius, start=best.x, **settings)
        won = now.success & (now.distance < found)
        best = _with(best, now, won)
        found, failed = torch.where(won, now.distance, found), torch.where(now.success, failed, radius)
        radius = torch.where(found.isfinite(), (failed + found) / 2, (2 * radius).clamp(max=widest))
    return replace(best, eps=torch.where(best.success, found, failed))


def _to_the_border(model: Callable[[Tensor], Tensor], clean: Adversarial, y: Tensor, norm: Norm) -> Tensor:
    """How far (B,) the border would be if the network were affine; at least a little."""
    aimed = clean.target if bool((clean.target >= 0).all()) else None
    objective = Misclassify("margin", y if aimed is None else clean.clean_logits.argmax(1), aimed)
    problem = Problem(model, objective, clean.x.shape[1:], len(y), like=clean.x)
    with frozen(model):
        here, grad = problem.gradient(clean.x)
    slope = grad.reshape(len(grad), -1).abs().sum(1) if norm == "linf" else sample_norm(grad)
    return (here.value.to(slope) / slope.clamp_min(torch.finfo(slope.dtype).tiny)).clamp_min(1e-6)


def _with(best: Adversarial, now: Adversarial, won: Tensor) -> Adversarial:
    """The former result with that of one more attack, taken over where it ``won`` (B,); what it cost is added."""
    changes: dict[str, Any] = {"warnings": tuple(dict.fromkeys(best.warnings + now.warnings))}
    for name in (f.name for f in fields(Adversarial) if isinstance(getattr(now, f.name), Tensor)):
        old, new = getattr(best, name), getattr(now, name)
        if name in ("forwards", "backwards"):
            changes[name] = old + new
        elif name == "first_success":
            changes[name] = torch.where(won & (old < 0), best.backwards + new, old)
        else:
            changes[name] = torch.where(as_rows(won, new), new, old)
    return replace(best, meta={**now.meta, "seconds": best.meta["seconds"] + now.meta["seconds"]}, **changes)
