"""What an attack returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from latentopt.classification import Misclassified
from latentopt.sets import Norm


class AttackWarning(UserWarning):
    """Something about an attack or its model makes the result doubtful."""


@dataclass(frozen=True, eq=False)
class AttackResult:
    """The best inputs found for B samples, whether they fool the classifier or not.

    ``success``, ``logits``, ``margin`` and ``loss`` are of ``x`` as it is returned: one more forward over all samples.
    """

    x: Tensor  # (B, *shape) in the ball and in the range of inputs
    clean: Tensor  # (B, *shape) the inputs around which it was searched
    labels: Tensor  # (B,) long, their classes; with ``targeted=True``, which does not say them, the predicted ones
    success: Tensor  # (B,) bool
    logits: Tensor  # (B, K)
    margin: Tensor  # (B,) how far beyond the border, in logits: best other minus label, or target minus best other
    loss: Tensor  # (B,) what was raised (or, towards a target, lowered); of a portfolio the cross-entropy
    distance: Tensor  # (B,) of x from the clean input, in the norm
    eps: Tensor  # (B,) greatest distance allowed
    target: Tensor  # (B,) long, the class that was aimed at when x was found; -1: none
    stage: Tensor  # (B,) long, number of the stage that found x; -1: the clean input
    first_success: Tensor  # (B,) long, backwards it took; 0: the clean input succeeds; -1: none found
    forwards: Tensor  # (B,) long
    backwards: Tensor  # (B,) long
    clean_logits: Tensor  # (B, K)
    norm: Norm
    targeted: bool  # success: the class `target` is predicted; else: any but `labels`
    warnings: tuple[str, ...]
    meta: dict[str, Any]  # stages, seed, budget, versions, seconds

    @property
    def predicted(self) -> Tensor:
        """Classes (B,) of ``x``."""
        return self.logits.argmax(1)

    @property
    def fooled(self) -> Misclassified:
        """The test that decides success, of logits (B, K)."""
        return Misclassified(self.target, aimed=True) if self.targeted else Misclassified(self.labels)


def joined(parts: Sequence[AttackResult]) -> AttackResult:
    """The results of several batches as one."""
    names = [f.name for f in fields(AttackResult) if isinstance(getattr(parts[0], f.name), Tensor)]
    whole = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
    seconds = sum(part.meta["seconds"] for part in parts)
    warned = tuple(dict.fromkeys(warning for part in parts for warning in part.warnings))
    return replace(parts[0], **whole, warnings=warned, meta={**parts[0].meta, "seconds": seconds})  # pyright: ignore[reportArgumentType]
