"""Robust accuracy under several attacks, and a test for vanishing and masked gradients.

After Carlini et al. 2019 (arXiv 1902.06705) and Athalye et al. 2018 (arXiv 1802.00420): attacks that need no gradient,
or that see through flat pieces, check the attacks that trust the gradients.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from latentopt.arguments import Values, checked
from latentopt.attacks.attack import attack
from latentopt.attacks.carlini_wagner import carlini_wagner
from latentopt.attacks.checks import check_inputs, check_labels, check_radii, require_movable
from latentopt.attacks.result import AttackWarning
from latentopt.autodiff import outside_inference_mode
from latentopt.batch_math import sample_norm, take
from latentopt.classification import Misclassify
from latentopt.errors import positive
from latentopt.gates import has_gates, uncapped_backward
from latentopt.networks.checks import first_output
from latentopt.networks.classifier import range_of
from latentopt.networks.freezing import frozen, require_eval
from latentopt.networks.outputs import adapt
from latentopt.problem import Problem
from latentopt.progress import ProgressLine
from latentopt.reports import Row
from latentopt.results import SavedResult, draw_shares
from latentopt.statistics import wilson

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHECKS = ("pgd-straight-through", "adr-gd", "square")
"""Attacks in Linf that do not trust the gradients."""


@dataclass(frozen=True, eq=False, repr=False)
class Robustness(SavedResult):
    """Correctness of N inputs under each attack."""

    right: dict[str, Tensor]  # "clean" and each attack to (N,) bool: still the label
    gradient: Tensor  # (N,) norm of the cross-entropy's gradient in the clean input
    classes: int

    @property
    def accuracy(self) -> dict[str, float]:
        """Share of the inputs that are still classified right, by attack."""
        return {name: right.double().mean().item() for name, right in self.right.items()}

    @property
    def rows(self) -> list[Row]:
        """One row for each input: whether it is right under each attack, and the norm of its gradient."""
        return [{name.removeprefix("right/"): value for name, value in row.items()} for row in super().rows]

    def summary(self) -> dict[str, Any]:
        """Return the number of inputs, the accuracy under each attack, and the fault, by name."""
        return {"samples": len(self.gradient), **self.accuracy, "failure": self.failure or "none"}

    def _draw(self, figure: Figure) -> None:
        draw_shares(figure.subplots(), self.accuracy, "accuracy")

    @property
    def zero(self) -> float:
        """Share of the inputs at which the gradient is exactly zero."""
        return (self.gradient == 0).double().mean().item()

    @property
    def failure(self) -> str:
        """The classifier's fault, or an empty string.

        ``vanishing gradients``: hardly better than chance, and zero gradients at most inputs; ``not trained``: hardly
        better than chance without them; ``masked gradients``: an attack that does not trust the gradients breaks more
        than 5 % of all inputs among those that withstand PGD and APGD. A fault must hold over the whole 95 % interval
        of a share (`latentopt.statistics.wilson`), so that a few inputs prove none.
        """
        if self._hardly_better_than_chance():
            return "vanishing gradients" if self.zero > 0.5 else "not trained"
        withstood = self.right["pgd"] & self.right["apgd"]
        masked = [int((withstood & ~self.right[name]).sum()) for name in CHECKS if name in self.right]
        return "masked gradients" if wilson(max(masked), len(withstood))[0] > 0.05 else ""

    def _hardly_better_than_chance(self) -> bool:
        """Accuracy is below a ninth of the way from chance to 1, for ten classes 20 %, and surely below half."""
        chance, clean = 1 / self.classes, self.right["clean"]
        upper = wilson(int(clean.sum()), len(clean))[1]
        return self.accuracy["clean"] < min(2 * chance, (8 * chance + 1) / 9) and upper < (chance + 1) / 2

    @property
    def worst(self) -> Tensor:
        """(N,) bool: right under every attack in Linf."""
        return torch.stack([right for name, right in self.right.items() if not name.endswith("l2")]).all(0)


@outside_inference_mode
@checked
def robustness(
    model: Callable[[Tensor], Any],
    x: Values,
    y: Values,
    eps: Values,
    eps_l2: Values | None = None,
    *,
    steps: int = 100,
    queries: int = 1000,
    seed: int = 0,
) -> Robustness:
    """Attack a classifier by methods that trust its gradients and by methods that do not.

    In Linf: ``fgsm``; ``pgd`` and ``apgd``, from the clean input; ``pgd-straight-through``, the same PGD with the caps'
    gradients passed straight through (BPDA); ``adr-gd``, the preset ``adr-gd-soft-attack``, whose gates see through a
    cap; ``square``, which needs no gradient. In L2: ``cw-l2`` and ``adr-gd-l2``. A network without gates has no
    ``adr-gd`` and no straight-through PGD.

    Args:
        model: as in `latentopt.attack`.
        x: inputs (N, *shape).
        y: their classes (N,) long.
        eps: radius in Linf, as in `latentopt.attack`, somewhere > 0.
        eps_l2: radius in L2, somewhere > 0; default no attacks in L2.
        steps: gradients of each attack; Carlini and Wagner's takes that many in each of 4 binary search steps.
        queries: forwards of ``square``.
        seed: of the attacks' random numbers.

    Returns:
        Correctness (N,) under each attack, accuracies, and the fault of the gradients if there is one.

    Raises:
        InputError: as `latentopt.attack`.
    """
    positive("queries", queries, integer=True)
    linf: dict[str, dict[str, Any]] = {"fgsm": {"optimizer": "fgsm"}}
    linf |= {name: {"optimizer": name, "steps": steps} for name in ("pgd", "apgd")}
    linf["adr-gd"] = {"optimizer": "adr-gd-soft-attack", "steps": steps}
    linf["pgd-straight-through"] = {"optimizer": "pgd", "steps": steps}
    linf["square"] = {"optimizer": "square", "steps": queries, "loss": "margin"}
    require_eval(model)
    x = check_inputs(model, x)
    y = check_labels(y, x)
    require_movable("eps", check_radii(model, eps, x, "linf"))
    if eps_l2 is not None:
        eps_l2 = check_radii(model, eps_l2, x, "l2", "eps_l2")
        require_movable("eps_l2", eps_l2)
    network = adapt(model, "model", is_classifier=True)
    first = take(network, torch.tensor([0], device=x.device))
    try:
        gated = has_gates(first, x[:1])
    except Exception:
        first_output(first, x[:1], "x")  # if it fails as well, that is the reason
        raise
    attacks = {name: settings for name, settings in linf.items() if gated or name not in ("adr-gd", CHECKS[0])}
    count = len(attacks) + (0 if eps_l2 is None else 1 + gated)
    with warnings.catch_warnings(), frozen(model), ProgressLine("robustness", count, "attack") as line:
        warnings.simplefilter("ignore", AttackWarning)  # `Robustness.failure` covers them
        clean = attack(model, x, y, 0.0, optimizer="fgsm")
        right = {"clean": ~clean.success}
        for name, settings in line.over(attacks.items()):
            target = _StraightThrough(model) if name == CHECKS[0] else model
            right[name] = ~attack(target, x, y, eps, seed=seed, **settings).success
        if eps_l2 is not None:
            line.text = "L2"
            cw = carlini_wagner(model, x, y, binary_search_steps=4, steps=steps)
            right["cw-l2"] = ~(cw.success & (cw.eps <= eps_l2))
            line.update()
            if gated:
                l2 = {"norm": "l2", "optimizer": "adr-gd-soft-attack", "steps": steps, "seed": seed}
                right["adr-gd-l2"] = ~attack(model, x, y, eps_l2, **l2).success
        return Robustness(right, _gradient(network, clean.x, y), clean.logits.shape[1])


class _StraightThrough(nn.Module):
    """A network whose backward pass ignores the caps of its activations."""

    def __init__(self, model: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.input_range = model, range_of(model)

    def take(self, rows: Tensor) -> _StraightThrough:
        return _StraightThrough(take(self.model, rows))

    def forward(self, x: Tensor) -> Tensor:
        with uncapped_backward(len(x)):
            return self.model(x)


def _gradient(model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Return the norm (N,) of the cross-entropy's gradient in each input."""
    problem = Problem(model, Misclassify("ce", y), x.shape[1:], len(x), like=x)
    _, grad = problem.whole().gradient(x)
    return sample_norm(grad)
