"""The L2 attack of Carlini and Wagner 2017 (arXiv 1608.04644, section VI): distance and margin in one objective."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from latentopt.callbacks import Progress
from latentopt.classification import cross_entropy, margin
from latentopt.errors import nonnegative, positive
from latentopt.networks import frozen, range_of
from latentopt.optimizers import Adam
from latentopt.problem import Problem
from latentopt.rows import as_rows
from latentopt.samples import sample_norm, take
from latentopt.solve import solve
from latentopt.tasks.adversarial import Adversarial
from latentopt.tasks.attack import attack


def carlini_wagner(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    *,
    targeted: bool = False,
    confidence: float = 0.0,
    c: float = 1e-2,
    rounds: int = 9,
    steps: int = 200,
    lr: float = 0.1,
) -> Adversarial:
    """Find the misclassified inputs nearest to ``x`` in L2.

    Adam minimises ``|x' - x|^2 + c relu(confidence - margin(x'))`` over ``x' = low + (high - low) (tanh w + 1) / 2``,
    in each round with another c for each sample: ten times the last one as long as nothing was found, then by
    bisection. Of all iterates that are misclassified the nearest is kept. `minimum_norm` answers the same question by
    projection, mostly with smaller distances at the same cost.

    Args:
        model, x, y, targeted: as in `latentopt.attack`.
        confidence: margin in logits that is asked for, >= 0.
        c: of the first round, > 0.
        rounds: >= 1.
        steps: of each round, >= 1.
        lr: of Adam, > 0, in units of w; it falls over a round.

    Returns:
        As of `latentopt.minimum_norm`: ``eps`` is the distance, where nothing was found 0. A step costs two forwards
        and a backward: one more to see whether it is misclassified.

    Raises:
        InputError: an argument is not as described.
    """
    for name, value in (("c", c), ("lr", lr)):
        positive(name, value)
    for name, value in (("rounds", rounds), ("steps", steps)):
        positive(name, value, integer=True)
    nonnegative("confidence", confidence)
    clean = attack(model, x, y, 0.0, norm="l2", targeted=targeted, optimizer="pgd", steps=1)
    labels = clean.target if targeted else clean.labels
    space = _Tanh(model, *range_of(model))
    closest = _Closest(space, clean, confidence, targeted)
    factor, least, most = torch.full_like(clean.eps, c), torch.zeros_like(clean.eps), clean.eps + torch.inf
    seconds, start = clean.meta["seconds"], space.inverse(clean.x)
    with frozen(model):
        for _ in range(rounds):
            closest.found = torch.zeros_like(clean.success)
            objective = _Penalised(clean.x, labels, factor, confidence, targeted)
            problem = Problem(space, objective, clean.x.shape[1:], len(x), like=clean.x)
            ran = solve(problem, Adam(lr=lr), steps=steps, start=start, callbacks=[closest])
            seconds += ran.meta["seconds"]
            closest.pays(ran.forwards, ran.backwards)
            least, most = torch.where(closest.found, least, factor), torch.where(closest.found, factor, most)
            factor = torch.where(most.isfinite(), (least + most) / 2, 10 * factor)
    best = closest.best
    settings = {"confidence": confidence, "c": c, "rounds": rounds, "steps": steps, "lr": lr}
    return replace(best, eps=best.distance, meta={**best.meta, "stages": [settings], "seconds": seconds})


class _Tanh:
    """The model on ``w``: images and logits side by side, (B, D + K)."""

    def __init__(self, model: Callable[[Tensor], Tensor], low: float, high: float) -> None:
        self.model, self.low, self.high = model, low, high

    def take(self, rows: Tensor) -> _Tanh:
        return _Tanh(take(self.model, rows), self.low, self.high)

    def images(self, w: Tensor) -> Tensor:
        return self.low + (self.high - self.low) * (w.tanh() + 1) / 2

    def inverse(self, x: Tensor) -> Tensor:
        edge = 1 - 1e-6  # where tanh still has a slope
        return (edge * (2 * (x - self.low) / (self.high - self.low) - 1)).atanh()

    def __call__(self, w: Tensor) -> Tensor:
        images = self.images(w)
        return torch.cat([images.flatten(1), self.model(images)], 1)


@dataclass(frozen=True, eq=False)
class _Penalised:
    clean: Tensor  # (B, *shape)
    labels: Tensor  # (B,)
    c: Tensor  # (B,)
    confidence: float
    targeted: bool

    def __call__(self, output: Tensor) -> Tensor:
        clean = self.clean.flatten(1)
        images, logits = output.split([clean.shape[1], output.shape[1] - clean.shape[1]], 1)
        beyond = _beyond(logits, self.labels, self.targeted)
        return (images - clean).square().sum(1) + self.c * (self.confidence - beyond).clamp_min(0)

    def take(self, rows: Tensor) -> _Penalised:
        return _Penalised(self.clean[rows], self.labels[rows], self.c[rows], self.confidence, self.targeted)


def _beyond(logits: Tensor, labels: Tensor, targeted: bool) -> Tensor:
    """How far (B,) beyond the border; > 0 where the attack succeeds."""
    return -margin(logits, labels) if targeted else margin(logits, labels)


class _Closest:
    """A callback that keeps, of each sample, the nearest iterate that is misclassified."""

    def __init__(self, space: _Tanh, clean: Adversarial, confidence: float, targeted: bool) -> None:
        self.space, self.best, self.confidence, self.targeted = space, clean, confidence, targeted
        self.labels = clean.target if targeted else clean.labels
        self.distance = torch.where(clean.success, 0.0, torch.inf)  # nothing is nearer than an input that is wrong
        self.found = clean.success

    @torch.no_grad()
    def __call__(self, progress: Progress) -> None:
        images = self.space.images(progress.x)
        logits = self.space.model(images)
        won = self.best.fooled(logits, logits) & (_beyond(logits, self.labels, self.targeted) >= self.confidence)
        self.found = self.found | won
        distance = sample_norm(images - self.best.clean)
        nearer = won & (distance < self.distance)
        self.distance = torch.where(nearer, distance, self.distance)
        best = self.best
        self.best = replace(
            best,
            x=torch.where(as_rows(nearer, images), images, best.x),
            logits=torch.where(nearer[:, None], logits, best.logits),
            distance=torch.where(nearer, distance, best.distance),
            success=best.success | nearer,
            forwards=best.forwards + 1,
        )

    def pays(self, forwards: Tensor, backwards: Tensor) -> None:
        """Count what a round cost; complete what the nearest inputs tell."""
        best, logits = self.best, self.best.logits
        first = torch.where(best.success & (best.first_success < 0), best.backwards + backwards, best.first_success)
        self.best = replace(
            best,
            forwards=best.forwards + forwards,
            backwards=best.backwards + backwards,
            margin=_beyond(logits, self.labels, self.targeted),
            loss=cross_entropy(logits, self.labels),
            first_success=first,
        )
