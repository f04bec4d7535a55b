"""Result of an attack."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from latentopt.attacks.goal import Goal
from latentopt.classification import Misclassified
from latentopt.reports import Row
from latentopt.results import MAX_SHOWN, SavedResult, draw_images, is_image, tensors_of
from latentopt.sets import Norm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class AttackWarning(UserWarning):
    """Something about an attack or its model makes the result doubtful."""


@dataclass(frozen=True, eq=False, repr=False)
class AttackResult(SavedResult):
    """The best inputs found for B samples, whether they are a success or not.

    ``success``, ``logits``, ``margin`` and ``loss`` belong to ``x`` as it is returned, evaluated once more.
    """

    x: Tensor  # (B, *shape) in the ball and in the range of inputs
    clean: Tensor  # (B, *shape) the inputs around which it was searched
    labels: Tensor  # (B,) long, classes of the clean inputs; the predicted ones where ``targeted``
    success: Tensor  # (B,) bool
    logits: Tensor  # (B, K)
    margin: Tensor  # (B,) logits beyond the decision boundary: best other minus label, or target minus best other
    loss: Tensor  # (B,) loss that was raised (towards a target: lowered); cross-entropy for a portfolio
    distance: Tensor  # (B,) of x from the clean input, in the norm
    eps: Tensor  # (B,) greatest distance allowed; (B, *shape) where there is one for each feature
    target: Tensor  # (B,) long, the class that was aimed at when x was found; -1: none
    stage: Tensor  # (B,) long, number of the stage that found x; -1: the clean input
    first_success: Tensor  # (B,) long, backwards until success; 0: the clean input succeeds; -1: none found
    forwards: Tensor  # (B,) long, through the model
    backwards: Tensor  # (B,) long, through the model
    clean_logits: Tensor  # (B, K)
    norm: Norm  # of the ball
    targeted: bool  # success is the class ``target``; else any class but ``labels``
    warnings: tuple[str, ...]  # messages of `AttackWarning`
    meta: dict[str, Any]  # stages, seed, budget, versions, seconds
    minimal: bool = False  # ``eps`` is the smallest distance found, of `latentopt.minimum_norm` or `carlini_wagner`

    @property
    def predicted(self) -> Tensor:
        """Predicted classes (B,) of ``x``."""
        return self.logits.argmax(1)

    @property
    def goal(self) -> Goal:
        """Classes that count as a success."""
        return Goal(self.labels, self.target if self.targeted else None)

    @property
    def rows(self) -> list[Row]:
        """One row for each sample: classes, success, margin, loss, distance and cost."""
        predicted = zip(self.clean_logits.argmax(1).tolist(), self.predicted.tolist(), strict=True)
        return [
            {**row, "clean": clean, "adversarial": adversarial}
            for row, (clean, adversarial) in zip(super().rows, predicted, strict=True)
        ]

    def summary(self) -> dict[str, Any]:
        """Return the share of successes, their median distance, and mean costs by name."""
        distance = self.distance[self.success].double()
        return {
            "samples": len(self.success),
            "success": float(self.success.double().mean()),
            "clean_accuracy": float((self.clean_logits.argmax(1) == self.labels).double().mean()),
            "norm": self.norm,
            "median_distance": float(distance.median()) if len(distance) else float("nan"),
            "forwards": float(self.forwards.double().mean()),
            "backwards": float(self.backwards.double().mean()),
            "seconds": self.meta.get("seconds", float("nan")),
        }

    def _draw(self, figure: Figure) -> None:
        *left, right = figure.subplots(1, 2 if is_image(self.x) else 1, squeeze=False)[0]
        if left:
            figure.set_size_inches(10, 4.2)
            clean, x = self.clean[:MAX_SHOWN], self.x[:MAX_SHOWN]
            low, high = torch.cat([clean, x]).aminmax()
            scale, change = (high - low).clamp_min(1e-9), x - clean
            shift = 0.5 + 0.5 * change / change.abs().max().clamp_min(1e-9)
            draw_images(left[0], {"clean": (clean - low) / scale, "change": shift, "adversarial": (x - low) / scale})
        draw_success(right, self.first_success.tolist(), self.backwards.tolist(), int(self.success.sum()))

    @property
    def fooled(self) -> Misclassified:
        """Old name of ``goal.criterion``."""
        warnings.warn("fooled is deprecated: use goal.criterion", DeprecationWarning, stacklevel=2)
        return self.goal.criterion


def draw_success(axes: Axes, first_success: Sequence[int], backwards: Sequence[int], successes: int) -> None:
    """Draw the share of samples that succeed by the gradients that they take.

    Args:
        axes: empty ones.
        first_success: gradients until success; 0: the clean input succeeds; -1: none found.
        backwards: gradients of each sample.
        successes: number of samples that succeed.
    """
    firsts, count = sorted(first for first in first_success if first > 0), max(len(first_success), 1)
    end, whole = max([1, *backwards]), sum(first == 0 for first in first_success)
    share = [(whole + i) / count for i in range(len(firsts) + 1)]
    axes.step([0, *firsts, end], [*share, successes / count], where="post", color="tab:blue")
    axes.set_xscale("symlog", linthresh=1)
    axes.set(xlim=(0, end), ylim=(-0.02, 1.02), xlabel="gradient evaluations of a sample", ylabel="share that succeeds")
    axes.set_title(f"{successes} of {count} attacked samples ({successes / count:.1%})")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.3, which="both")


def concatenate(parts: Sequence[AttackResult]) -> AttackResult:
    """Return the results of several batches as one."""
    first = parts[0]
    tensors = {name: torch.cat([getattr(part, name) for part in parts]) for name in tensors_of(first)}
    seconds, stages = sum(part.meta["seconds"] for part in parts), max((p.meta["stages"] for p in parts), key=len)
    warnings = tuple(dict.fromkeys(warning for part in parts for warning in part.warnings))
    return replace(first, **tensors, warnings=warnings, meta={**first.meta, "stages": stages, "seconds": seconds})  # pyright: ignore[reportArgumentType]
