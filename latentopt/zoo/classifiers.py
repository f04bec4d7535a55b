"""A LightningModule that trains classifiers, on images as they are or on adversarial ones (arXiv 1706.06083)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from latentopt.classification import Misclassify
from latentopt.errors import InputError, positive
from latentopt.networks.classifier import Classifier, range_for
from latentopt.networks.freezing import frozen
from latentopt.optimizers import PGD
from latentopt.problem import Problem
from latentopt.sets import bounded_ball
from latentopt.solver.loop import solve
from latentopt.zoo.modules import annealed_adam


@dataclass(frozen=True)
class Adversary:
    """An attack on training images: steps of the gradient's sign from a random point of the Linf ball around each.

    Args:
        steps: >= 1.
        step: their size, > 0, in units of the ball's radius.
        warmup: share of the training, in [0, 1), over which the radius grows from 0 to its full size.
    """

    steps: int = 7
    step: float = 0.25
    warmup: float = 0.0

    def __post_init__(self) -> None:
        positive("steps", self.steps, integer=True)
        positive("step", self.step)
        if not 0 <= self.warmup < 1:
            raise InputError("warmup", "a number in [0, 1)", self.warmup)

    @classmethod
    def fgsm(cls) -> Adversary:
        """One step of 1.25 radii, "fast" training (Wong et al. 2020, arXiv 2001.03994)."""
        return cls(steps=1, step=1.25)

    @classmethod
    def pgd(cls) -> Adversary:
        """Seven steps of a quarter of the radius (Madry et al. 2018, arXiv 1706.06083, for CIFAR10)."""
        return cls()

    def examples(self, classifier: Classifier, x: Tensor, y: Tensor, eps: float) -> Tensor:
        """Find inputs (B, *shape) within ``eps`` of ``x`` and in the classifier's range that have a high cross-entropy.

        Args:
            classifier: left as it was.
            x: inputs (B, *shape) in the classifier's range.
            y: their classes (B,), long.
            eps: radius >= 0, in the units of ``x``.

        The worst iterate is returned, not the last.
        """
        feasible = bounded_ball(x, eps, "linf", *range_for(classifier, x))
        start = feasible.project(x + eps * (2 * torch.rand_like(x) - 1))  # solve's own starts are one for a whole batch
        problem = Problem(classifier, Misclassify("ce", y), x.shape[1:], len(x), feasible, like=x)
        method = PGD(lr=self.step, momentum=0.0, schedule="constant")
        with frozen(classifier):  # in eval mode: BatchNorm in training mode would let samples touch each other
            return solve(problem, method, steps=self.steps, start=start).x


class ClassifierTraining(lightning.LightningModule):
    """Trains a classifier by cross-entropy.

    Args:
        classifier: normalised images (B, C, H, W) to logits (B, K).
        classes: names of the K classes.
        eps: radius of the Linf ball, > 0, in units of the pixels, for the adversary and for the robustness on the card.
        adversary: attack on the training images; default none.
        mean, std: normalisation of the images, as in `latentopt.Classifier`.
        lr: learning rate of Adam, annealed to 0 by a cosine over the training.
    """

    exported = {"classifier": "classifier"}

    def __init__(
        self,
        classifier: nn.Module,
        classes: Sequence[str],
        eps: float = 0.1,
        adversary: Adversary | None = None,
        mean: float | list[float] = 0.0,
        std: float | list[float] = 1.0,
        lr: float = 1e-3,
    ) -> None:
        super().__init__()
        positive("eps", eps)
        self.network = Classifier(classifier, mean=mean, std=std, classes=classes)
        self.eps, self.adversary, self.lr = eps, adversary, lr

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        x, y = batch
        if self.adversary:
            x = self.adversary.examples(self.network, x, y, self.eps * self._grown(self.adversary.warmup))
        logits = self.network(x)
        loss = F.cross_entropy(logits, y)
        accuracy = (logits.argmax(1) == y).float().mean()
        self.log_dict({"train/loss": loss, "train/accuracy": accuracy}, prog_bar=True, on_step=False, on_epoch=True)
        return loss

    def _grown(self, warmup: float) -> float:
        steps = warmup * int(self.trainer.estimated_stepping_batches)
        return min(1.0, (self.global_step + 1) / steps) if steps else 1.0

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        x, y = batch
        self.log("val/accuracy", (self.network(x).argmax(1) == y).float().mean(), prog_bar=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return annealed_adam(self, self.lr)

    def networks(self) -> dict[str, nn.Module]:
        """Return the trained parts by the name of their export."""
        return {"classifier": self.network.module}
