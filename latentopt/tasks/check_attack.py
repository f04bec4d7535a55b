"""Signs that an attack fails because of gradients it cannot use, not because a model is robust.

After Carlini et al. 2019 (arXiv 1902.06705, section 4) and Athalye et al. 2018 (arXiv 1802.00420, section 3.1).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latentopt.classification import Fooled
from latentopt.draws import Draws
from latentopt.errors import InputError
from latentopt.networks import frozen, range_of
from latentopt.sets import around
from latentopt.tasks.adversarial import AttackWarning
from latentopt.tasks.attack import attack, width


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
        settings: anything else that `latentopt.attack` takes; by default ``pgd``.

    Raises:
        InputError: as `latentopt.attack`.

    Warns:
        AttackWarning: more steps or a larger radius give less success, random points do better, or with the whole
            range of inputs to move in some samples still resist.
    """
    if not isinstance(eps, (int, float)) or not eps > 0:
        raise InputError("eps", "one number > 0", eps)
    settings = {"optimizer": "pgd", **settings}
    widest = width(model, x, settings.get("norm", "linf"))

    def share(radius: float, **changes: Any) -> float:
        found = attack(model, x, y, radius, **{"steps": steps, **settings, **changes})
        return found.success.double().mean().item()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AttackWarning)
        success = {
            "few steps": share(eps, steps=max(steps // 5, 1)),
            "as asked": share(eps),
            "many steps": share(eps, steps=5 * steps),
            "twice the radius": share(min(2 * eps, widest)),
            "by chance": _by_chance(model, x, y, eps, settings),
        }
        if widest < torch.inf:
            success["any input"] = share(widest)
    findings = []
    slack = 1 / len(x) + 1e-9  # one sample may go either way
    for less, more in [("few steps", "as asked"), ("as asked", "many steps"), ("as asked", "twice the radius")]:
        if success[more] < success[less] - slack:
            findings.append(f"{more}: success falls from {success[less]:.1%} ({less}) to {success[more]:.1%}")
    if success["by chance"] > success["as asked"] + slack:
        findings.append(f"by chance: random points succeed more often, {success['by chance']:.1%}, than the attack")
    if success.get("any input", 1.0) < 1:
        findings.append(f"any input: only {success['any input']:.1%} succeed where every input is allowed")
    for finding in findings:
        warnings.warn(f"{finding}; the gradients mislead the attack", AttackWarning, stacklevel=2)
    return Check(success, tuple(findings))


def _by_chance(
    model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, eps: float, settings: dict[str, Any], points: int = 10
) -> float:
    """Share of the samples for which one of some random points succeeds."""
    feasible = around(x, eps, settings.get("norm", "linf"), *range_of(model))
    fooled = Fooled(y, settings.get("targeted", False))
    found = torch.zeros_like(y, dtype=torch.bool)
    with frozen(model), torch.no_grad():
        for point in range(points):
            logits = model(feasible.sample(x, Draws(settings.get("seed", 0), torch.full_like(y, point))))
            found = found | fooled(logits, logits)
    return found.double().mean().item()
