"""The smallest radius at which an input can be misclassified, found by bisection."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from latentopt._deprecated import renamed_keywords
from latentopt.arguments import Values, checked
from latentopt.attacks.attack import attack
from latentopt.attacks.boundary import OVERSHOOT, find_nearest_boundary
from latentopt.attacks.checks import check_mask, range_width
from latentopt.attacks.result import AttackResult, AttackWarning
from latentopt.autodiff import outside_inference_mode
from latentopt.batch_math import where_rows
from latentopt.errors import InputError, positive, warn
from latentopt.gates import has_gates
from latentopt.networks.freezing import frozen
from latentopt.networks.outputs import adapt
from latentopt.progress import ProgressLine
from latentopt.results import tensors_of
from latentopt.sets import Norm


@renamed_keywords(rounds="search_steps")
@outside_inference_mode
@checked
def minimum_norm(
    model: Callable[[Tensor], Any],
    x: Values,
    y: Values,
    *,
    norm: Norm = "linf",
    search_steps: int = 12,
    targeted: bool = False,
    **settings: Any,
) -> AttackResult:
    """Find the smallest radius at which each input can be misclassified.

    The first radius is the distance to the nearest decision boundary of an affine network, over the nine likeliest
    other classes, at a gradient each; the point there is tried too. The radius doubles until a success is found; then
    it is bisected. Each attack starts at the nearest success so far, projected onto the smaller ball.

    Args:
        model, x, y, norm, targeted: as in `latentopt.attack`.
        search_steps: attacks, each at one radius, >= 1. Each one after the first success halves the interval.
        settings: other arguments of `latentopt.attack`. By default 50 steps of ``pgd`` on the margin; in L2, where the
            network has gates, of ``adr-gd-soft-attack``.

    Returns:
        A result as that of `latentopt.attack`, at the cost of all its attacks. ``eps`` is the smallest distance of a
        success; where there is none, the greatest radius tried. It is an upper bound: a failed attack at a smaller
        radius proves nothing.

    Raises:
        InputError: as `latentopt.attack`.

    >>> model = lambda x: torch.stack([x[:, 0], x[:, 1]], 1)
    >>> minimum_norm(model, torch.tensor([[0.75, 0.5]]), torch.tensor([0])).eps
    tensor([0.1250])
    """
    positive("search_steps", search_steps, integer=True)
    for name in ("eps", "start", "early_stop"):
        if name in settings:
            raise InputError(name, "nothing here", settings[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AttackWarning)
        result = _search(model, x, y, search_steps, {"norm": norm, "targeted": targeted, **settings})
    for message in result.warnings:
        warn(message, AttackWarning)
    return result


def _search(
    model: Callable[[Tensor], Tensor], x: Values, y: Values, search_steps: int, settings: dict[str, Any]
) -> AttackResult:
    """Return what `minimum_norm` does; the warnings of each attack are in the result too."""
    best, settings = _attack_clean(model, x, y, settings)
    clean, y, norm = best.clean, best.goal.classes, settings["norm"]
    settings["mask"] = check_mask(settings.get("mask"), clean)
    boundary = find_nearest_boundary(adapt(model, "model", is_classifier=True), best, norm, settings["mask"])
    best = replace(best, forwards=best.forwards + boundary.cost, backwards=best.backwards + boundary.cost)
    smallest = torch.zeros_like(best.eps).masked_fill(~best.success, torch.inf)  # distance of a success
    failed, radius, start = torch.zeros_like(smallest), boundary.radius.masked_fill(best.success, 0), clean
    widest = min(range_width(model, clean, norm), torch.finfo(clean.dtype).max ** 0.5)
    with ProgressLine("minimum_norm", search_steps, "radius") as line:
        for number in line.over(range(search_steps)):
            result = attack(model, clean, y, radius, start=start, **settings)
            best, smallest = _keep_nearer(best, smallest, result, smallest)
            if number == 0:
                result = attack(model, clean, y, radius, start=boundary.x, **_one_step_settings(settings))
                result = replace(result, warnings=())  # those of the search say it
                best, smallest = _keep_nearer(best, smallest, result, (1 - OVERSHOOT) * smallest)
            failed, start = torch.where(smallest <= radius, failed, radius), best.x
            radius = torch.where(smallest.isfinite(), (failed + smallest) / 2, (2 * radius).clamp(max=widest))
    return replace(best, eps=torch.where(best.success, smallest, failed), minimal=True)


def _attack_clean(
    model: Callable[[Tensor], Tensor], x: Values, y: Values, settings: dict[str, Any]
) -> tuple[AttackResult, dict[str, Any]]:
    """Return the result of an attack of radius 0, and the settings with their defaults."""
    optimizer = settings.get("optimizer")
    if optimizer in (None, "pgd"):
        settings = {"loss": "margin", "steps": 50, **settings, "optimizer": "pgd"}
    best = attack(model, x, y, 0.0, **settings)
    if optimizer is None and settings["norm"] == "l2":
        with frozen(model):
            settings["optimizer"] = "adr-gd-soft-attack" if has_gates(adapt(model), best.clean) else "pgd"
        best = replace(best, forwards=best.forwards + 1)
    return best, settings


def _one_step_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings for an attack with the same goal that only looks whether its start is a success."""
    shared = {name: settings[name] for name in ("norm", "targeted", "mask", "seed", "batch_size") if name in settings}
    if settings.get("targets") in ("random", "least-likely"):
        shared["targets"] = settings["targets"]
    return {**shared, "optimizer": "pgd", "loss": "margin", "steps": 1}


def _keep_nearer(
    best: AttackResult, smallest: Tensor, result: AttackResult, bound: Tensor
) -> tuple[AttackResult, Tensor]:
    """Return the best result and its distance (B,) after one more attack, whose costs are added.

    A success of the attack replaces the best one where it is nearer than ``bound`` (B,).
    """
    nearer = result.success & (result.distance < bound)
    changes: dict[str, Any] = {"warnings": tuple(dict.fromkeys(best.warnings + result.warnings))}
    for name in tensors_of(result):
        old, new = getattr(best, name), getattr(result, name)
        if name in ("forwards", "backwards"):
            changes[name] = old + new
        elif name == "first_success":
            changes[name] = torch.where(nearer & (old < 0), best.backwards + new, old)
        else:
            changes[name] = where_rows(nearer, new, old)
    changes["meta"] = {**result.meta, "seconds": best.meta["seconds"] + result.meta["seconds"]}
    return replace(best, **changes), torch.where(nearer, result.distance, smallest)
