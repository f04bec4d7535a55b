"""Result of an attack."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from latentopt.attacks.goal import Goal
from latentopt.classification import Misclassified
from latentopt.sets import Norm


class AttackWarning(UserWarning):
    """Something about an attack or its model makes the result doubtful."""


@dataclass(frozen=True, eq=False)
class AttackResult:
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
    eps: Tensor  # (B,) greatest distance allowed
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

    @property
    def predicted(self) -> Tensor:
        """Predicted classes (B,) of ``x``."""
        return self.logits.argmax(1)

    @property
    def goal(self) -> Goal:
        """Classes that count as a success."""
        return Goal(self.labels, self.target if self.targeted else None)

    @property
    def fooled(self) -> Misclassified:
        """Old name of ``goal.criterion``."""
        warnings.warn("fooled is deprecated: use goal.criterion", DeprecationWarning, stacklevel=2)
        return self.goal.criterion


def tensor_fields(result: AttackResult) -> list[str]:
    """Return the names of the fields that hold a tensor."""
    return [f.name for f in fields(AttackResult) if isinstance(getattr(result, f.name), Tensor)]


def concatenate(parts: Sequence[AttackResult]) -> AttackResult:
    """Return the results of several batches as one."""
    first = parts[0]
    tensors = {name: torch.cat([getattr(part, name) for part in parts]) for name in tensor_fields(first)}
    seconds = sum(part.meta["seconds"] for part in parts)
    warnings = tuple(dict.fromkeys(warning for part in parts for warning in part.warnings))
    return replace(first, **tensors, warnings=warnings, meta={**first.meta, "seconds": seconds})  # pyright: ignore[reportArgumentType]
