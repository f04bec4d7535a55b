"""Signs that an attack fails because of gradients it cannot use, not because a model is robust.

After Carlini et al. 2019 (arXiv 1902.06705, section 4) and Athalye et al. 2018 (arXiv 1802.00420, section 3.1).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from latentopt.attacks.attack import attack
from latentopt.attacks.checks import range_width
from latentopt.attacks.result import AttackResult, AttackWarning
from latentopt.attacks.stages import Portfolio
from latentopt.errors import InputError
from latentopt.networks.classifier import range_of
from latentopt.networks.freezing import frozen
from latentopt.noise import Noise
from latentopt.sets import Box, FeasibleSet, bounded_ball


@dataclass(frozen=True)
class Check:
    """How an attack does when it is changed."""

    success: dict[str, float]  # change to share of the samples
    findings: tuple[str, ...]  # what should not be; empty: nothing found


def check_attack(
    model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, eps: float, *, steps: int = 100, **settings: Any
) -> Check:
    """Attack with fewer and more steps, with larger radii, and by chance, and see whether the results make sense.

    Args:
        model, x, y, eps: as in `latentopt.attack`; ``eps`` is one number, > 0.
        steps: of the attack; it is repeated with a fifth and with five times as many.
        settings: anything else that `latentopt.attack` takes; by default ``pgd``. Neither a portfolio nor ``fgsm``.

    Raises:
        InputError: as `latentopt.attack`.

    Warns:
        AttackWarning: more steps or a larger radius give less success, random points do better, or with the whole
            range of inputs to move in some samples still resist though a few random points, or the other inputs, have
            the class that is asked for.
    """
    if not isinstance(eps, (int, float)) or not eps > 0:
        raise InputError("eps", "one number > 0", eps)
    settings = {"optimizer": "pgd", **settings}
    optimizer = settings["optimizer"]
    if isinstance(optimizer, Portfolio) or optimizer in ("portfolio", "fgsm"):
        raise InputError("optimizer", "one method, whose steps can be changed", repr(optimizer))

    def attacked(radius: float, **changes: Any) -> AttackResult:
        return attack(model, x, y, radius, **{"steps": steps, **settings, **changes})

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AttackWarning)
        asked = attacked(eps)
        widest = range_width(model, asked.clean, asked.norm)
        success = {
            "few steps": _share(attacked(eps, steps=max(steps // 5, 1)).success),
            "as asked": _share(asked.success),
            "many steps": _share(attacked(eps, steps=5 * steps).success),
            "twice the radius": _share(attacked(min(2 * eps, widest)).success),
            "by chance": _share(_by_chance(model, asked, settings.get("seed", 0))),
        }
        if widest < torch.inf:
            free = attacked(widest)
            success["any input"] = _share(free.success)
            resists = bool((_elsewhere(model, free, settings.get("seed", 0)) & ~free.success).any())
        else:
            resists = False
    findings = _findings(success, len(x), resists)
    for finding in findings:
        warnings.warn(f"{finding}; the gradients mislead the attack", AttackWarning, stacklevel=2)
    return Check(success, findings)


def _share(success: Tensor) -> float:
    return success.double().mean().item()


def _findings(success: dict[str, float], count: int, resists: bool) -> tuple[str, ...]:
    """What should not be, of shares of ``count`` samples; ``resists``: some in vain, with a success in the range."""
    findings = []
    slack = 1 / count + 1e-9  # one sample may go either way
    for less, more in [("few steps", "as asked"), ("as asked", "many steps"), ("as asked", "twice the radius")]:
        if success[more] < success[less] - slack:
            findings.append(f"{more}: success falls from {success[less]:.1%} ({less}) to {success[more]:.1%}")
    if success["by chance"] > success["as asked"] + slack:
        findings.append(f"by chance: random points succeed more often, {success['by chance']:.1%}, than the attack")
    if resists:
        findings.append(f"any input: only {success['any input']:.1%} succeed where every input is allowed")
    return tuple(findings)


@torch.no_grad()
def _by_chance(model: Callable[[Tensor], Tensor], asked: AttackResult, seed: int, points: int = 10) -> Tensor:
    """Whether one of some random points (B,) is what the attack was asked for."""
    return _any_of(
        model, asked, _drawn(bounded_ball(asked.clean, asked.eps, asked.norm, *range_of(model)), asked, seed, points)
    )


@torch.no_grad()
def _elsewhere(model: Callable[[Tensor], Tensor], asked: AttackResult, seed: int, points: int = 10) -> Tensor:
    """Whether a random point of the range, or the clean input of another sample (B,), is what was asked for.

    A class may occur nowhere: that no attack finds it shows nothing.
    """
    others = (asked.clean.roll(shift, 0) for shift in range(1, min(points + 1, len(asked.clean))))
    drawn = _drawn(Box(*range_of(model)), asked, seed, points)
    return _any_of(model, asked, chain(drawn, others))


def _drawn(feasible: FeasibleSet, asked: AttackResult, seed: int, points: int) -> Iterator[Tensor]:
    """So many random points of the set for each sample, (B, *shape) each."""
    for point in range(points):
        draws = Noise(seed, torch.full_like(asked.labels, point))
        yield feasible.project(feasible.sample(asked.clean, draws))


def _any_of(model: Callable[[Tensor], Tensor], asked: AttackResult, points: Iterable[Tensor]) -> Tensor:
    """Whether one of the points (B, *shape) is what the attack was asked for (B,)."""
    found = torch.zeros_like(asked.success)
    with frozen(model):
        for x in points:
            logits = model(x)
            found = found | asked.goal.is_reached(logits)
    return found
