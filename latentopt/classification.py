"""Losses on a classifier's logits, and the objective and success test of an attack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from latentopt.batch_math import take
from latentopt.errors import InputError

LossName = Literal["ce", "margin", "dlr"]
Loss = LossName | Callable[[Tensor, Tensor], Tensor]
"""Name of a loss, or a function of logits (B, K) and labels (B,) to (B,): the larger, the less a label is predicted. A
function that holds something for each sample has ``take(rows)``."""


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy (B,) of logits (B, K) at labels (B,) long."""
    return F.cross_entropy(logits, labels, reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the best other logit minus the label's (B,): > 0 where another class is predicted.

    The loss of Carlini and Wagner (arXiv 1608.04644), without its floor.

    >>> margin(torch.tensor([[3.0, 1.0, 0.0]]), torch.tensor([1]))
    tensor([2.])
    """
    own = logits.gather(1, labels[:, None])[:, 0]
    return logits.scatter(1, labels[:, None], -torch.inf).amax(1) - own


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the difference of logits ratio (B,) (arXiv 2003.01690, eq. 6); for fewer than 4 classes the margin.

    It divides the margin by the spread of the largest logits, so that rescaling the logits does not change it.
    """
    if logits.shape[1] < 4:
        return margin(logits, labels)
    top = logits.topk(3, 1).values
    return margin(logits, labels) / (top[:, 0] - top[:, 2] + _TINY)


def targeted_dlr(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Return the targeted ratio (B,), to be minimised (arXiv 2003.01690, eq. 7); for fewer than 4 classes the margin.

    Args:
        logits: logits (B, K).
        labels: true classes (B,) long.
        targets: classes (B,) long that are to be predicted.
    """
    if logits.shape[1] < 4:
        return margin(logits, targets)
    top = logits.topk(4, 1).values
    difference = (logits.gather(1, labels[:, None]) - logits.gather(1, targets[:, None]))[:, 0]
    return difference / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + _TINY)


_TINY = 1e-12
LOSSES: dict[LossName, Callable[[Tensor, Tensor], Tensor]] = {"ce": cross_entropy, "margin": margin, "dlr": dlr}


def loss_function(loss: Loss) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the loss of a name, or the function itself.

    Raises:
        InputError: there is no loss of this name.
    """
    if callable(loss):
        return loss
    if loss not in LOSSES:
        raise InputError("loss", f"one of {', '.join(get_args(LossName))}, or a function", repr(loss))
    return LOSSES[loss]


@dataclass(frozen=True, eq=False)
class Misclassify:
    """Objective of an attack: minus the loss at the labels; with targets, the loss at the targets.

    Args:
        loss: a `Loss`; ``dlr`` becomes the targeted ratio if there are targets.
        labels: true classes (B,) long.
        targets: classes (B,) long that are to be predicted; None: any other class.
    """

    loss: Loss
    labels: Tensor
    targets: Tensor | None = None

    def __call__(self, logits: Tensor) -> Tensor:
        loss = loss_function(self.loss)
        if self.targets is None:
            return -loss(logits, self.labels)
        if loss is dlr:
            return targeted_dlr(logits, self.labels, self.targets)
        return loss(logits, self.targets)

    def take(self, rows: Tensor) -> Misclassify:
        targets = None if self.targets is None else self.targets[rows]
        return Misclassify(take(self.loss, rows), self.labels[rows], targets)


@dataclass(frozen=True, eq=False)
class Misclassified:
    """Success test of an attack: the predicted class is not the label; with ``aimed``, it is the class ``labels``.

    The first of equal logits is predicted.
    """

    labels: Tensor  # (B,) long
    aimed: bool = False

    def __call__(self, value: Tensor, logits: Tensor) -> Tensor:
        return (logits.argmax(1) == self.labels) == self.aimed

    def take(self, rows: Tensor) -> Misclassified:
        return Misclassified(self.labels[rows], self.aimed)
