"""The smallest perturbation that fools a classifier, found by bisection of the radius."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from latentopt._deprecated import renamed_keywords
from latentopt.attacks.attack import attack
from latentopt.attacks.border import BEYOND, nearest_border
from latentopt.attacks.inputs import width
from latentopt.attacks.result import AttackResult
from latentopt.errors import InputError, positive
from latentopt.gates import has_gates
from latentopt.networks.freezing import frozen
from latentopt.sets import Norm
from latentopt.solver.rows import as_rows


@renamed_keywords(rounds="search_steps")
def minimum_norm(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    *,
    norm: Norm = "linf",
    search_steps: int = 12,
    targeted: bool = False,
    **settings: Any,
) -> AttackResult:
    """Find the smallest radius at which each input can be misclassified.

    The first radius tried is where the nearest border of a class would be if the network were affine (of the nine most
    likely ones, a gradient each), and the point there is looked at too. As long as none has succeeded the radius
    doubles; then it is bisected. Each round starts from the nearest adversarial input of the rounds before, brought
    into the smaller ball.

    Args:
        model, x, y, norm, targeted: as in `latentopt.attack`.
        search_steps: attacks, one radius each, >= 1. Each one after the first success halves the interval.
        settings: anything else that `latentopt.attack` takes; by default 50 steps on the margin of
            ``pgd``, or in L2, where the network has gates, of ``adr-gd-soft``.

    Returns:
        As of `latentopt.attack`; ``eps`` is the distance of what was found, the least of all rounds, or where nothing
        was found the greatest radius tried. Costs are those of all rounds. A radius is an upper bound: that an attack
        fails at a smaller one does not show that there is nothing.

    Raises:
        InputError: as `latentopt.attack`.

    >>> model = lambda x: torch.stack([x[:, 0], x[:, 1]], 1)
    >>> minimum_norm(model, torch.tensor([[0.75, 0.5]]), torch.tensor([0])).eps
    tensor([0.1250])
    """
    positive("search_steps", search_steps, integer=True)
    for name in ("eps", "start"):
        if name in settings:
            raise InputError(name, "nothing here", settings[name])
    best, settings = _clean(model, x, y, {"norm": norm, "targeted": targeted, **settings})
    clean, y = best.clean, best.target if targeted else best.labels
    border = nearest_border(model, best, norm)
    best = replace(best, forwards=best.forwards + border.cost, backwards=best.backwards + border.cost)
    found = torch.zeros_like(best.eps).masked_fill(~best.success, torch.inf)
    failed, radius, start = torch.zeros_like(found), border.radius.masked_fill(best.success, 0), clean
    widest = min(width(model, clean, norm), torch.finfo(clean.dtype).max ** 0.5)
    for number in range(search_steps):
        now = attack(model, clean, y, radius, start=start, **settings)
        best, found = _nearer(best, found, now, found)
        if number == 0:
            now = attack(model, clean, y, radius, start=border.x, **_looking(settings))
            best, found = _nearer(best, found, now, (1 - BEYOND) * found)
        failed, start = torch.where(found <= radius, failed, radius), best.x
        radius = torch.where(found.isfinite(), (failed + found) / 2, (2 * radius).clamp(max=widest))
    return replace(best, eps=torch.where(best.success, found, failed))


def _looking(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of an attack that sees whether its start succeeds, as those mean it."""
    same = {name: settings[name] for name in ("norm", "targeted", "seed", "batch_size") if name in settings}
    aim = {"targets": settings["targets"]} if settings.get("targets") in ("random", "least-likely") else {}
    return {**same, **aim, "optimizer": "pgd", "loss": "margin", "steps": 1}


def _nearer(best: AttackResult, found: Tensor, now: AttackResult, bar: Tensor) -> tuple[AttackResult, Tensor]:
    """The best and its distance (B,), after one more attack: taken where it succeeds nearer than ``bar`` (B,)."""
    won = now.success & (now.distance < bar)
    return _with(best, now, won), torch.where(won, now.distance, found)


def _clean(
    model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, settings: dict[str, Any]
) -> tuple[AttackResult, dict[str, Any]]:
    """Whatever is wrong already, and the settings with those that were not given."""
    chosen = settings.get("optimizer")
    if chosen in (None, "pgd"):
        settings = {"loss": "margin", "steps": 50, **settings, "optimizer": "pgd"}
    best = attack(model, x, y, 0.0, **settings)
    if chosen is None and settings["norm"] == "l2":
        with frozen(model):
            settings["optimizer"] = "adr-gd-soft" if has_gates(model, best.clean) else "pgd"
        best = replace(best, forwards=best.forwards + 1)
    return best, settings


def _with(best: AttackResult, now: AttackResult, won: Tensor) -> AttackResult:
    """The former result with that of one more attack, taken over where it ``won`` (B,); what it cost is added."""
    changes: dict[str, Any] = {"warnings": tuple(dict.fromkeys(best.warnings + now.warnings))}
    for name in (f.name for f in fields(AttackResult) if isinstance(getattr(now, f.name), Tensor)):
        old, new = getattr(best, name), getattr(now, name)
        if name in ("forwards", "backwards"):
            changes[name] = old + new
        elif name == "first_success":
            changes[name] = torch.where(won & (old < 0), best.backwards + new, old)
        else:
            changes[name] = torch.where(as_rows(won, new), new, old)
    return replace(best, meta={**now.meta, "seconds": best.meta["seconds"] + now.meta["seconds"]}, **changes)
