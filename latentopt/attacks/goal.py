"""The goal of an attack: which classes count as a success."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from latentopt.classification import Misclassified, margin


@dataclass(frozen=True, eq=False)
class Goal:
    """Classes that count as a success: one target for each sample, or any class but its label."""

    labels: Tensor  # (B,) long, classes of the inputs
    target: Tensor | None = None  # (B,) long; None: any class but the label

    @property
    def classes(self) -> Tensor:
        """Classes (B,) long that a loss is given: the targets, or the labels."""
        return self.labels if self.target is None else self.target

    @property
    def criterion(self) -> Misclassified:
        """Success test on logits (B, K)."""
        return Misclassified(self.labels) if self.target is None else Misclassified(self.target, aimed=True)

    def is_reached(self, logits: Tensor) -> Tensor:
        """Return where logits (B, K) are a success, (B,) bool."""
        return self.criterion(logits, logits)

    def margin(self, logits: Tensor) -> Tensor:
        """Return how far logits (B, K) lie beyond the decision boundary, (B,): > 0 on success."""
        return margin(logits, self.labels) if self.target is None else -margin(logits, self.target)

    def take(self, rows: Tensor) -> Goal:
        """Return the goal of the samples ``rows`` (long)."""
        return Goal(self.labels[rows], None if self.target is None else self.target[rows])


def rank_other_classes(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the classes but the label, (B, K - 1) long, the likeliest first; logits (B, K), labels (B,) long."""
    return logits.scatter(1, labels[:, None], -torch.inf).argsort(1, descending=True)[:, :-1]


def draw_targets(x: Tensor, y: Tensor, classes: int, seed: int) -> Tensor:
    """Draw a class other than ``y`` for each sample, (B,) long.

    The class depends on the seed and the sample alone, so that a batch gets what its samples get.
    """
    digests = [
        hashlib.blake2b(sample.contiguous().view(torch.uint8).numpy().tobytes(), key=str(seed).encode())
        for sample in x.cpu()
    ]
    shift = torch.tensor([1 + int.from_bytes(d.digest()[:8], "big") % (classes - 1) for d in digests], device="cpu")
    return (y + shift.to(y.device)) % classes
