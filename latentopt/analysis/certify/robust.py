"""Whether a small classifier is robust: attacked first, then certified."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from latentopt.analysis.certify.answer import Method, certify
from latentopt.analysis.certify.certificate import Certificate
from latentopt.attacks.attack import attack
from latentopt.classification import Misclassify
from latentopt.networks.classifier import range_of
from latentopt.problem import Problem
from latentopt.sets import bounded_ball


def certify_robustness(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    eps: float,
    *,
    seconds: float = 60.0,
    method: Method = "auto",
    seed: int = 0,
) -> list[Certificate]:
    """For each image, whether another class's logit exceeds the label's somewhere within ``eps`` of it.

    Args:
        model: as in `latentopt.attack`, and a chain as in `certify`.
        x: inputs (B, *shape) in the model's range.
        y: their classes (B,) long.
        eps: radius of the l-infinity ball, >= 0.
        seconds: of CPU for each image, > 0.
        method: as in `certify`.
        seed: of the attack.

    Returns:
        Of each image a certificate of the margin: its status is ABOVE where an adversarial input is found (``x`` is
        one), BELOW where there is none (at most a tie), TIME where neither is known.

    Raises:
        InputError: as `latentopt.attack` and `certify`.
    """
    tried = attack(model, x, y, eps, optimizer="apgd", loss="margin", restarts=4, steps=50, seed=seed)
    x = tried.clean
    ball = bounded_ball(x, eps, "linf", *range_of(model))
    problem = Problem(model, Misclassify("margin", tried.labels), x.shape[1:], len(x), ball, like=x)
    return [
        certify(problem, sample=at, start=tried.x[at], seconds=seconds, goal=0.0, method=method) for at in range(len(x))
    ]
