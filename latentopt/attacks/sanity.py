"""Signs that an attack fails because its gradients mislead it, not because the model is robust.

After Carlini et al. 2019 (arXiv 1902.06705, section 4) and Athalye et al. 2018 (arXiv 1802.00420, section 3.1).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from latentopt.arguments import Values, checked
from latentopt.attacks.attack import attack
from latentopt.attacks.checks import (
    attack_set,
    check_inputs,
    check_mask,
    check_radii,
    range_width,
    require_movable,
)
from latentopt.attacks.result import AttackResult, AttackWarning
from latentopt.attacks.stages import Portfolio
from latentopt.autodiff import outside_inference_mode
from latentopt.errors import InputError, warn
from latentopt.networks.classifier import range_for
from latentopt.networks.freezing import frozen
from latentopt.networks.outputs import adapt
from latentopt.noise import Noise
from latentopt.progress import ProgressLine
from latentopt.reports import Row
from latentopt.results import ResultDisplay, draw_shares
from latentopt.sets import Box, FeasibleSet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RANDOM_POINTS = 10
"""Random points that are tried for each sample."""


@dataclass(frozen=True, repr=False)
class AttackCheck(ResultDisplay):
    """Success of an attack under changes, and what is wrong with it."""

    success: dict[str, float]  # change to share of the samples
    findings: tuple[str, ...]  # signs of misleading gradients; empty: none

    @property
    def rows(self) -> list[Row]:
        """One row for each change: the share of successes under it."""
        return [{"change": change, "success": share} for change, share in self.success.items()]

    def summary(self) -> dict[str, Any]:
        """Return the share of successes under each change, and the findings, by name."""
        return {**self.success, "findings": list(self.findings)}

    def _draw(self, figure: Figure) -> None:
        draw_shares(figure.subplots(), self.success, "share that succeeds")


@outside_inference_mode
@checked
def check_attack(
    model: Callable[[Tensor], Any], x: Values, y: Values, eps: Values, *, steps: int = 100, **settings: Any
) -> AttackCheck:
    """Compare an attack with fewer and more steps, larger radii and random points.

    Args:
        model, x, y, eps: as in `latentopt.attack`; some ``eps`` is > 0.
        steps: steps of the attack, which is repeated with a fifth of them and with five times as many.
        settings: other arguments of `latentopt.attack`; ``optimizer`` is ``pgd`` by default, and neither a portfolio
            nor ``fgsm``.

    Returns:
        The shares of success, and the findings that are also warned of.

    Raises:
        InputError: as `latentopt.attack`.

    Warns:
        AttackWarning: more steps or a larger radius give less success; random points do better; or with the whole range
            of inputs allowed samples still resist, though a random point or another input is a success.
    """
    settings = {"optimizer": "pgd", **settings}
    optimizer, seed = settings["optimizer"], settings.get("seed", 0)
    if isinstance(optimizer, Portfolio) or optimizer in ("portfolio", "fgsm"):
        raise InputError("optimizer", "one method, whose steps can be changed", repr(optimizer))
    norm = settings.get("norm", "linf")
    clean = check_inputs(model, x)
    radii, mask = check_radii(model, eps, clean, norm), check_mask(settings.get("mask"), clean)
    require_movable("eps", radii)
    width = range_width(model, clean, norm)

    def run(radius: Tensor, **changes: Any) -> AttackResult:
        result = attack(model, x, y, radius, **{"steps": steps, **settings, **changes})
        line.update()
        return result

    def share(success: Tensor) -> float:
        return success.double().mean().item()

    with warnings.catch_warnings(), ProgressLine("check_attack", 5, "attack") as line:
        warnings.simplefilter("ignore", AttackWarning)
        result = run(radii)
        ball = attack_set(model, clean, radii, norm, mask)
        success = {
            "few steps": share(run(radii, steps=max(steps // 5, 1)).success),
            "as asked": share(result.success),
            "many steps": share(run(radii, steps=5 * steps).success),
            "twice the radius": share(run((2 * radii).clamp(max=width)).success),
            "by chance": share(_any_succeeds(model, result, _random_points(ball, result, seed))),
        }
        resists = False
        if width < torch.inf:
            free = run(torch.where(radii > 0, width, 0).to(radii))
            success["any input"] = share(free.success)
            # A class may occur nowhere: that no attack finds it shows nothing.
            is_whole = mask is None and radii.ndim == 1
            everywhere = Box(*range_for(model, clean)) if is_whole else attack_set(model, clean, free.eps, norm, mask)
            others = (clean.roll(shift, 0) for shift in range(1, min(RANDOM_POINTS + 1, len(clean))))
            points = chain(_random_points(everywhere, free, seed), map(everywhere.project, others))
            resists = bool((_any_succeeds(model, free, points) & ~free.success).any())
    findings = _findings(success, len(clean), resists)
    for finding in findings:
        warn(f"{finding}; the gradients mislead the attack", AttackWarning)
    return AttackCheck(success, findings)


def _findings(success: dict[str, float], count: int, resists: bool) -> tuple[str, ...]:
    """Return what should not be, given shares of ``count`` samples.

    ``resists``: the attack misses a success that there is in the range of inputs.
    """
    findings = []
    tolerance = 1 / count + 1e-9  # one sample may go either way
    for less, more in [("few steps", "as asked"), ("as asked", "many steps"), ("as asked", "twice the radius")]:
        if success[more] < success[less] - tolerance:
            findings.append(f"{more}: success falls from {success[less]:.1%} ({less}) to {success[more]:.1%}")
    if success["by chance"] > success["as asked"] + tolerance:
        findings.append(f"by chance: random points succeed more often, {success['by chance']:.1%}, than the attack")
    if resists:
        findings.append(f"any input: only {success['any input']:.1%} succeed where every input is allowed")
    return tuple(findings)


def _random_points(feasible: FeasibleSet, result: AttackResult, seed: int) -> Iterator[Tensor]:
    """Yield random points of the set for each sample, (B, *shape) each."""
    for point in range(RANDOM_POINTS):
        noise = Noise(seed, torch.full_like(result.labels, point))
        yield feasible.project(feasible.sample(result.clean, noise))


@torch.no_grad()
def _any_succeeds(model: Callable[[Tensor], Tensor], result: AttackResult, points: Iterable[Tensor]) -> Tensor:
    """Return where one of the points (B, *shape) reaches the goal of the attack, (B,) bool."""
    success, network = torch.zeros_like(result.success), adapt(model, "model", is_classifier=True)
    with frozen(model):
        for x in points:
            success = success | result.goal.is_reached(network(x))
    return success
