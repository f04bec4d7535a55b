"""A lean loop for problems that take microseconds: `latentopt.solve` without what a single action does not need.

The steps are the optimisers' own. `latentopt.solve` keeps histories, budgets and statuses, a quarter of a millisecond
a step; here a step costs little more than the method. `tests/rl/test_refine.py` holds both to the same results.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from latentopt.noise import Noise
from latentopt.optimizers.base import Optimizer
from latentopt.problem import Batch


class Found(NamedTuple):
    """The best of all restarts and iterates."""

    x: Any  # (B, *shape), like the rest a tensor or an array
    value: Any  # (B,) objective there
    first: Any  # (B,) objective at the start
    forwards: int  # of a sample, all restarts together
    backwards: int


def descend(batch: Batch, optimizer: Optimizer, start: Tensor, restarts: int) -> Found:
    """Minimise from ``start`` (B, *shape), a point of the set, and from ``restarts - 1`` random points of it."""
    count = len(start)
    x: Any = start  # an array or a tensor
    if restarts > 1:
        restart = torch.arange(restarts).repeat_interleave(count)
        batch = replace(batch.tiled(restarts), noise=Noise(batch.noise.seed, restart))
        x = torch.cat([start, batch.random_start()[count:]])
    if optimizer.arithmetic:
        x = x.numpy()
    state, forwards, backwards = optimizer.init(batch, x), 1, 0
    best_x, best, first = x, None, None
    for _ in range(batch.steps):
        step = optimizer.step(batch, x, state)
        best_x, best = _better(best_x, best, x, step.here.value)
        first = step.here.value[:count] if first is None else first
        forwards, backwards = forwards + step.cost.forwards, backwards + step.cost.backwards
        x, state = step.x, step.state
    assert first is not None
    best_x, best = _better(best_x, best, x, batch.evaluate(x).value)
    if restarts > 1:
        winner = np.asarray(best).reshape(restarts, count).argmin(0) * count + np.arange(count)
        best_x, best = best_x[winner], best[winner]
    return Found(best_x, best, first, restarts * forwards, restarts * backwards)


def _better(best_x: Any, best: Any, x: Any, value: Any) -> tuple[Any, Any]:
    """The better of the best and what was seen at ``x``; what is not a number is never better. Tensors or arrays."""
    if best is None:
        return x, value
    better = value < best
    if len(better) == 1:
        return (x, value) if better else (best_x, best)
    where = torch.where if isinstance(x, Tensor) else np.where
    return where(better.reshape(-1, *[1] * (x.ndim - 1)), x, best_x), where(better, value, best)  # pyright: ignore[reportCallIssue]
