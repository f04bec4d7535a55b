"""Evaluation of candidates, shared by methods without gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from latentopt.optimizers.base import Cost
from latentopt.problem import Batch, Evaluation

Refine = Callable[[Batch, Tensor], tuple[Evaluation | None, Tensor]]
"""Maps points (rows, *shape) to better ones, and to the evaluation of the first, if there is one."""


class Candidates(NamedTuple):
    """Candidates and their values."""

    evaluation: Evaluation  # of the best point so far, from which the step started
    best: Tensor  # (B, *shape) the best of that point and the candidates
    points: Tensor  # (count, B, *shape) candidates in the feasible set
    values: Tensor  # (count, B) objective; infinite where it is not finite
    cost: Cost


def evaluate_candidates(batch: Batch, x: Tensor, candidates: Tensor, refine: Refine | None = None) -> Candidates:
    """Evaluate ``x`` (B, *shape) and ``candidates`` (count, B, *shape), projected: ``count + 1`` forwards.

    With ``refine`` all these points are first moved by it; its cost is not counted.
    """
    copies = 1 + len(candidates)
    tiled = batch.tiled(copies)
    points = tiled.feasible.project(torch.cat([x[None], candidates.to(x)]).flatten(0, 1))
    first, points = refine(tiled, points) if refine else (None, points)
    refined = tiled.evaluate(points)
    value, output = first or refined
    points, values = points.unflatten(0, (copies, len(x))), refined.value.unflatten(0, (copies, len(x)))
    values = values.where(values.isfinite(), torch.inf)
    best = points[values.argmin(0), torch.arange(len(x), device=x.device)]
    return Candidates(Evaluation(value[: len(x)], output[: len(x)]), best, points[1:], values[1:], Cost(copies, 0))
