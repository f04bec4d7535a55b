"""The L2 attack of Carlini and Wagner 2017 (arXiv 1608.04644, section VI): distance and margin in one objective."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isfinite

import torch
from torch import Tensor

from latentopt._deprecated import renamed_keywords
from latentopt.attacks.attack import attack
from latentopt.attacks.border import steepness
from latentopt.attacks.inputs import width
from latentopt.attacks.result import AttackResult
from latentopt.batch_math import sample_norm, take
from latentopt.classification import cross_entropy, margin
from latentopt.errors import nonnegative, positive
from latentopt.networks.classifier import range_of
from latentopt.networks.freezing import frozen
from latentopt.optimizers import Adam
from latentopt.problem import Problem
from latentopt.sets import Box, FeasibleSet, Free
from latentopt.solver.callbacks import Progress
from latentopt.solver.loop import solve
from latentopt.solver.rows import as_rows

PACE = 0.4
"""Adam's first step, as a share of the way to the border."""
FARTHEST = 1e18
"""Borders are taken to be no farther, so that squares of distances are finite in single precision."""


@renamed_keywords(rounds="binary_search_steps")
def carlini_wagner(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    *,
    targeted: bool = False,
    confidence: float = 0.0,
    c: float | None = None,
    binary_search_steps: int = 9,
    steps: int = 200,
    lr: float | None = None,
) -> AttackResult:
    """Find the misclassified inputs nearest to ``x`` in L2.

    Adam minimises ``|x' - x|^2 + c relu(confidence - margin(x'))`` over ``x' = low + (high - low) (tanh w + 1) / 2``
    (where the range is open, over x' itself), in each round with another c for each sample: ten times the last one as
    long as nothing was found, then by bisection. Of all iterates that are misclassified the nearest is kept; for c only
    those of a round's second half count, as the first long steps overshoot whatever c is. `minimum_norm` answers the
    same question by projection, mostly with smaller distances at the same cost.

    Args:
        model, x, y, targeted: as in `latentopt.attack`.
        confidence: margin in logits that is asked for, >= 0.
        c: of the first round, > 0, distances being shares of the range (where it is open, in units of the inputs).
            None: for each sample twice what it would take if the network were affine.
        binary_search_steps: >= 1.
        steps: of each round, >= 1.
        lr: of Adam, > 0, in units of w; it falls over a round. None: for each sample such that a step is two fifths
            of the way to the border if the network were affine.

    Returns:
        As of `latentopt.minimum_norm`: ``eps`` is the distance, where nothing was found 0. A step costs two forwards
        and a backward, one forward to see whether it is misclassified; one gradient at the clean input comes first.

    Raises:
        InputError: an argument is not as described.
    """
    for name, value in (("c", c), ("lr", lr)):
        if value is not None:
            positive(name, value)
    for name, value in (("binary_search_steps", binary_search_steps), ("steps", steps)):
        positive(name, value, integer=True)
    nonnegative("confidence", confidence)
    clean = attack(model, x, y, 0.0, norm="l2", targeted=targeted, optimizer="pgd", steps=1)
    labels = clean.target if targeted else clean.labels
    distance, lead = (t.to(_wide(t)) for t in steepness(model, clean, confidence))
    distance = distance.clamp(max=min(width(model, clean.clean, "l2"), FARTHEST))
    space = _Space.around(model, clean.clean, None if lr is not None else distance)
    closest = _Closest(space, clean, confidence, targeted)
    closest.pays(torch.ones_like(clean.forwards), torch.ones_like(clean.backwards))
    factor = space.unit**2 * c * torch.ones_like(distance) if c is not None else _constant(distance, lead)
    least, most = torch.zeros_like(factor), torch.full_like(factor, torch.inf)
    seconds, start = clean.meta["seconds"], torch.zeros_like(space.origin)
    with frozen(model):
        for _ in range(binary_search_steps):
            closest.found = torch.zeros_like(clean.success)
            objective = _Penalised(space.clean, labels, factor, confidence, targeted)
            problem = Problem(space, objective, start.shape[1:], len(x), space.feasible, like=start)
            ran = solve(problem, Adam(lr=lr or PACE), steps=steps, start=start, callbacks=[closest])
            seconds += ran.meta["seconds"]
            closest.pays(ran.forwards, ran.backwards)
            least, most = torch.where(closest.found, least, factor), torch.where(closest.found, factor, most)
            factor = torch.where(most.isfinite(), (least + most) / 2, 10 * factor)
    best = closest.best
    settings = {"confidence": confidence, "c": c, "binary_search_steps": binary_search_steps, "steps": steps, "lr": lr}
    return replace(best, eps=best.distance, meta={**best.meta, "stages": [settings], "seconds": seconds})


def _wide(t: Tensor) -> Tensor:
    """An empty tensor like ``t`` in at least single precision: half has not the digits for sums of squares."""
    return t.new_empty(0, dtype=torch.promote_types(t.dtype, torch.float32))


def _constant(distance: Tensor, lead: Tensor) -> Tensor:
    """Twice the c (B,) whose minimum lies on the border, of an affine network with that distance and lead (B,)."""
    return 4 * distance.square() / torch.where(lead > 0, lead, 1)


@dataclass(frozen=True, eq=False)
class _Space:
    """The model on ``v``, which starts at 0: images and logits side by side, (B, D + K).

    An image is ``low + (high - low) (tanh w + 1) / 2`` with ``w = origin + pace v``; where the range is open, w itself.
    """

    model: Callable[[Tensor], Tensor]
    low: float
    high: float
    clean: Tensor  # (B, *shape) in at least single precision
    origin: Tensor  # (B, *shape)
    pace: Tensor  # (B, 1, ..., 1) > 0
    dtype: torch.dtype  # of the model's inputs

    @classmethod
    def around(cls, model: Callable[[Tensor], Tensor], clean: Tensor, distance: Tensor | None) -> _Space:
        """From the inputs ``clean``; the pace 1, or such that an image moves by ``distance`` (B,) as v by 1."""
        (low, high), wide = range_of(model), clean.to(_wide(clean))
        pace = torch.ones_like(wide.flatten(1)[:, 0])
        space = cls(model, low, high, wide, wide, as_rows(pace, wide), clean.dtype)
        if space.bounded:
            edge = 1 - max(1e-6, torch.finfo(wide.dtype).eps)  # where tanh still has a slope
            share = (2 * (wide - low) / (high - low) - 1).clamp(-1, 1)  # half precision rounds the ends outwards
            space = replace(space, origin=(edge * share).atanh())
        if distance is None:
            return space
        slope = (high - low) / 2 * (1 - space.origin.tanh().square()) if space.bounded else torch.ones_like(wide)
        return replace(space, pace=as_rows(distance / sample_norm(slope), wide))

    @property
    def bounded(self) -> bool:
        return isfinite(self.high - self.low)

    @property
    def unit(self) -> float:
        """What distances are shares of."""
        return self.high - self.low if self.bounded else 1.0

    @property
    def feasible(self) -> FeasibleSet:
        """Where v may be: where the range is open on one side only, not all are inputs."""
        if self.bounded or not (isfinite(self.low) or isfinite(self.high)):
            return Free()
        return Box((self.low - self.origin) / self.pace, (self.high - self.origin) / self.pace)

    def images(self, v: Tensor) -> Tensor:
        w = self.origin + self.pace * v
        x = self.low + (self.high - self.low) * (w.tanh() + 1) / 2 if self.bounded else w
        return x.clamp(self.low, self.high)

    def __call__(self, v: Tensor) -> Tensor:
        images = self.images(v)
        return torch.cat([images.flatten(1), self.model(images.to(self.dtype)).to(images)], 1)

    def take(self, rows: Tensor) -> _Space:
        model, clean, origin, pace = take(self.model, rows), self.clean[rows], self.origin[rows], self.pace[rows]
        return replace(self, model=model, clean=clean, origin=origin, pace=pace)


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

    def __init__(self, space: _Space, clean: AttackResult, confidence: float, targeted: bool) -> None:
        self.space, self.best, self.confidence, self.targeted = space, clean, confidence, targeted
        self.labels = clean.target if targeted else clean.labels
        self.distance = torch.where(clean.success, 0.0, torch.inf)  # nothing is nearer than an input that is wrong
        self.found = clean.success

    @torch.no_grad()
    def __call__(self, progress: Progress) -> None:
        images = self.space.images(progress.x).to(self.best.clean)
        logits = self.space.model(images)
        won = self.best.fooled(logits, logits) & (_beyond(logits, self.labels, self.targeted) >= self.confidence)
        if 2 * progress.t > progress.steps:
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
