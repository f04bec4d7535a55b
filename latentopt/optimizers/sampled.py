"""Candidates looked at in one batch with the best point so far; what methods without gradients share."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from latentopt.optimizers.base import Cost
from latentopt.problem import Batch, Evaluation


class Seen(NamedTuple):
    """What the candidates of a step are worth."""

    here: Evaluation  # of the best point so far, from which the step started
    best: Tensor  # (B, *shape) the better of it and the best candidate
    candidates: Tensor  # (count, B, *shape) in the feasible set
    values: Tensor  # (count, B) objective; infinite where it is not finite
    cost: Cost


def look(batch: Batch, x: Tensor, candidates: Tensor) -> Seen:
    """Evaluate ``x`` (B, *shape) and ``candidates`` (count, B, *shape), projected: ``count + 1`` forwards."""
    copies = 1 + len(candidates)
    tiled = batch.tiled(copies)
    points = tiled.feasible.project(torch.cat([x[None], candidates.to(x)]).flatten(0, 1))
    value, output = tiled.evaluate(points)
    points, values = points.unflatten(0, (copies, len(x))), value.unflatten(0, (copies, len(x)))
    values = values.where(values.isfinite(), torch.inf)
    best = points[values.argmin(0), torch.arange(len(x), device=x.device)]
    here = Evaluation(value[: len(x)], output[: len(x)])
    return Seen(here, best, points[1:], values[1:], Cost(copies, 0))
