"""The L2 attack of Carlini and Wagner 2017 (arXiv 1608.04644, section VI): distance and margin in one objective."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from latentopt._deprecated import renamed_keywords
from latentopt.arguments import Values, checked
from latentopt.attacks.attack import attack
from latentopt.attacks.boundary import estimate_boundary_distance
from latentopt.attacks.checks import range_width
from latentopt.attacks.goal import Goal
from latentopt.attacks.result import AttackResult
from latentopt.autodiff import outside_inference_mode
from latentopt.batch_math import by_row, cpu_tensor, sample_norm, take, where_rows
from latentopt.classification import cross_entropy
from latentopt.errors import nonnegative, positive
from latentopt.networks.classifier import range_for
from latentopt.networks.freezing import frozen
from latentopt.networks.outputs import adapt
from latentopt.optimizers import Adam
from latentopt.problem import Problem
from latentopt.progress import ProgressLine
from latentopt.sets import Box, FeasibleSet, Free
from latentopt.solver.callbacks import Progress
from latentopt.solver.loop import solve

FIRST_STEP = 0.4
"""Adam's first step, as a share of the distance to the decision boundary."""
MAX_DISTANCE = 1e18
"""Greatest distance of a boundary, so that squares of distances are finite in single precision."""


@renamed_keywords(rounds="binary_search_steps")
@outside_inference_mode
@checked
def carlini_wagner(
    model: Callable[[Tensor], Any],
    x: Values,
    y: Values,
    *,
    targeted: bool = False,
    confidence: float = 0.0,
    c: float | None = None,
    binary_search_steps: int = 9,
    steps: int = 200,
    lr: float | None = None,
) -> AttackResult:
    """Find the misclassified inputs nearest to ``x`` in L2.

    Adam minimises ``|x' - x|^2 + c relu(confidence - margin(x'))`` over ``x' = low + (high - low) (tanh w + 1) / 2``;
    where the range is open, over x' itself. Each binary search step has another c for each sample: ten times the last
    one until a success is found, then by bisection. The nearest of all successful iterates is returned. For the choice
    of c only iterates in the second half of a binary search step count, as the first long steps overshoot whatever c
    is. `minimum_norm` answers the same question by projection, mostly with smaller distances at the same cost.

    Args:
        model, x, y, targeted: as in `latentopt.attack`.
        confidence: margin in logits that is asked for, >= 0.
        c: weight of the margin in the first binary search step, > 0, distances being shares of the range (where it is
            open, in units of the inputs). None: for each sample twice the weight that an affine network would take.
        binary_search_steps: values of c that are tried, >= 1.
        steps: steps of Adam for each c, >= 1.
        lr: step size of Adam, > 0, in units of w; it falls to 0 for each c. None: for each sample such that the first
            step is two fifths of the way to the decision boundary of an affine network.

    Returns:
        A result as that of `latentopt.minimum_norm`: ``eps`` is the distance, 0 where no success was found. A step
        costs a forward and a backward; one gradient at the clean input comes first.

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
    model = adapt(model, "model", is_classifier=True)
    distance, gap = (t.to(_at_least_single(t)) for t in estimate_boundary_distance(model, clean, confidence))
    distance = distance.clamp(max=min(range_width(model, clean.clean, "l2"), MAX_DISTANCE))
    space = TanhSpace.around(model, clean.clean, None if lr is not None else distance)
    nearest = _NearestSuccess(space, clean, confidence)
    nearest.add_cost(torch.ones_like(clean.forwards), torch.ones_like(clean.backwards))
    weight = torch.full_like(distance, space.unit**2 * (c or 1))
    if c is None:  # twice the weight whose minimum lies on the boundary of an affine network
        weight = 4 * distance.square() / torch.where(gap > 0, gap, 1)
    low, high = torch.zeros_like(weight), torch.full_like(weight, torch.inf)
    seconds, start = clean.meta["seconds"], torch.zeros_like(space.origin)
    with frozen(model), ProgressLine("carlini_wagner", binary_search_steps, "search step") as line:
        for _ in line.over(range(binary_search_steps)):
            nearest.late_success = torch.zeros_like(clean.success)
            hinge = _Hinge(clean.goal, weight, confidence)
            problem = Problem(
                space, hinge, start.shape[1:], len(start), space.feasible, like=start, penalty=_SquaredDistance(space)
            )
            result = solve(problem, Adam(lr=lr or FIRST_STEP), steps=steps, start=start, callbacks=[nearest])
            seconds += result.meta["seconds"]
            nearest.add_cost(result.forwards, result.backwards)
            success = nearest.late_success
            low, high = torch.where(success, low, weight), torch.where(success, weight, high)
            weight = torch.where(high.isfinite(), (low + high) / 2, 10 * weight)
    best = nearest.best
    settings = {"confidence": confidence, "c": c, "binary_search_steps": binary_search_steps, "steps": steps, "lr": lr}
    return replace(best, eps=best.distance, minimal=True, meta={**best.meta, "stages": [settings], "seconds": seconds})


def _at_least_single(t: Tensor) -> Tensor:
    """Return an empty tensor like ``t``, in single precision where that is half: squares need the digits."""
    return t.new_empty(0, dtype=torch.promote_types(t.dtype, torch.float32))


@dataclass(frozen=True, eq=False)
class TanhSpace:
    """A model on the variable ``v``, which starts at 0: (B, *shape) to logits (B, K).

    An image is ``low + (high - low) (tanh w + 1) / 2`` with ``w = origin + pace v``; where the range is open, w itself.
    """

    model: Callable[[Tensor], Tensor]
    low: float | Tensor  # broadcastable to an input
    high: float | Tensor
    clean: Tensor  # (B, *shape) in at least single precision
    origin: Tensor  # (B, *shape)
    pace: Tensor  # (B, 1, ..., 1) > 0
    dtype: torch.dtype  # of the model's inputs

    @classmethod
    def around(cls, model: Callable[[Tensor], Tensor], clean: Tensor, distance: Tensor | None) -> TanhSpace:
        """Return the space around inputs ``clean``, an image moving by ``distance`` (B,) as v moves by 1."""
        clean_wide = clean.to(_at_least_single(clean))
        low, high = range_for(model, clean_wide)
        pace = torch.ones_like(clean_wide.flatten(1)[:, 0])
        space = cls(model, low, high, clean_wide, clean_wide, by_row(pace, clean_wide), clean.dtype)
        slope = torch.ones_like(clean_wide)
        if space.is_bounded:
            edge = 1 - max(1e-6, torch.finfo(clean_wide.dtype).eps)  # where tanh still has a slope
            share = (2 * (clean_wide - low) / (high - low) - 1).clamp(-1, 1)  # half precision rounds the ends outwards
            space = replace(space, origin=(edge * share).atanh())
            slope = (high - low) / 2 * (1 - space.origin.tanh().square())
        return space if distance is None else replace(space, pace=by_row(distance / sample_norm(slope), clean_wide))

    @property
    def is_bounded(self) -> bool:
        return bool(cpu_tensor(self.high - self.low).isfinite().all())

    @property
    def unit(self) -> float:
        """Unit of distances: the width of the range, the greatest of several, or 1 where it is open."""
        return float(cpu_tensor(self.high - self.low, torch.float64).max()) if self.is_bounded else 1.0

    @property
    def feasible(self) -> FeasibleSet:
        """Feasible set of v: a range that is open on one side only has one end."""
        if self.is_bounded or not any(bool(cpu_tensor(end).isfinite().any()) for end in (self.low, self.high)):
            return Free()
        return Box((self.low - self.origin) / self.pace, (self.high - self.origin) / self.pace)

    def images(self, v: Tensor) -> Tensor:
        """Return the images (B, *shape) of v."""
        w = self.origin + self.pace * v
        x = self.low + (self.high - self.low) * (w.tanh() + 1) / 2 if self.is_bounded else w
        return x.clamp(self.low, self.high)  # pyright: ignore[reportCallIssue, reportArgumentType]

    def __call__(self, v: Tensor) -> Tensor:
        return self.model(self.images(v).to(self.dtype)).to(self.clean)

    def take(self, rows: Tensor) -> TanhSpace:
        model, clean, origin, pace = take(self.model, rows), self.clean[rows], self.origin[rows], self.pace[rows]
        return replace(self, model=model, clean=clean, origin=origin, pace=pace)


@dataclass(frozen=True, eq=False)
class _SquaredDistance:
    """Squared L2 distance (B,) of the images of v (B, *shape) from the clean ones."""

    space: TanhSpace

    def __call__(self, v: Tensor) -> Tensor:
        return (self.space.images(v).flatten(1) - self.space.clean.flatten(1)).square().sum(1)

    def take(self, rows: Tensor) -> _SquaredDistance:
        return _SquaredDistance(self.space.take(rows))


@dataclass(frozen=True, eq=False)
class _Hinge:
    """``weight relu(confidence - margin)`` of logits (B, K), the margin being that of a goal."""

    goal: Goal
    weight: Tensor  # (B,)
    confidence: float

    def __call__(self, logits: Tensor) -> Tensor:
        return self.weight * (self.confidence - self.goal.margin(logits)).clamp_min(0)

    def take(self, rows: Tensor) -> _Hinge:
        return _Hinge(self.goal.take(rows), self.weight[rows], self.confidence)


class _NearestSuccess:
    """A callback that keeps the nearest iterate of each sample that is a success."""

    def __init__(self, space: TanhSpace, clean: AttackResult, confidence: float) -> None:
        self.space, self.best, self.confidence = space, clean, confidence
        self.distance = torch.where(clean.success, 0.0, torch.inf)  # nothing is nearer than an input that is wrong
        self.late_success = clean.success  # (B,) bool, a success in the second half of the steps

    @torch.no_grad()
    def __call__(self, progress: Progress) -> None:
        best, goal = self.best, self.best.goal
        images, logits = self.space.images(progress.x).to(best.clean), progress.output.to(best.logits)
        success = goal.is_reached(logits) & (goal.margin(logits) >= self.confidence)
        if 2 * progress.t > progress.steps:
            self.late_success = self.late_success | success
        distance = sample_norm(images - best.clean)
        nearer = success & (distance < self.distance)
        self.distance = torch.where(nearer, distance, self.distance)
        self.best = replace(
            best,
            x=where_rows(nearer, images, best.x),
            logits=torch.where(nearer[:, None], logits, best.logits),
            distance=torch.where(nearer, distance, best.distance),
            success=best.success | nearer,
        )

    def add_cost(self, forwards: Tensor, backwards: Tensor) -> None:
        """Add the cost of a solve, and update the fields that follow from the best logits."""
        best = self.best
        new_success = best.success & (best.first_success < 0)
        self.best = replace(
            best,
            forwards=best.forwards + forwards,
            backwards=best.backwards + backwards,
            margin=best.goal.margin(best.logits),
            loss=cross_entropy(best.logits, best.goal.classes),
            first_success=torch.where(new_success, best.backwards + backwards, best.first_success),
        )
