"""A lean loop for problems that take microseconds: `latentopt.solve` without what a single action does not need.

`latentopt.solve` keeps histories, budgets and statuses, a quarter of a millisecond a step; here a step costs little
more than the method. `tests/rl/test_fast.py` holds both to the same results.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentopt.noise import Noise
from latentopt.optimizers.base import Optimizer
from latentopt.rl.fast.action_problem import ClosedFormBatch
from latentopt.rl.fast.steps import change_of, has_steps, look_of

Array = NDArray[Any]


class Ascent(NamedTuple):
    """The best of all restarts and iterates."""

    x: Array  # (B, *shape)
    value: Array  # (B,) objective there
    first: Array  # (B,) objective at the start
    forwards: int  # of a sample, all restarts together
    backwards: int


def ascend(batch: ClosedFormBatch, optimizer: Optimizer, start: Tensor, restarts: int) -> Ascent:
    """Minimise from ``start`` (B, *shape), a point of the set, and from ``restarts - 1`` random points of it."""
    count, x = len(start), start
    if restarts > 1:
        restart = torch.arange(restarts, device="cpu").repeat_interleave(count)
        batch = replace(batch.tiled(restarts), noise=Noise(batch.noise.seed, restart))
        x = torch.cat([start, batch.random_start()[count:]])
    run = _run_arrays if has_steps(optimizer) else _run_tensors
    best, first, forwards, backwards = run(batch, optimizer, x)
    best_x, value = best.x, best.value
    if restarts > 1:
        winner = value.reshape(restarts, count).argmin(0) * count + np.arange(count)
        best_x, value = best_x[winner], value[winner]
    return Ascent(best_x, value, first[:count], restarts * forwards, restarts * backwards)


class _Best:
    """The best iterate so far; a value that is not a number is never better."""

    def __init__(self, x: Array, value: Array) -> None:
        self.x, self.value = x, value

    def update(self, x: Array, value: Array) -> None:
        better = value < self.value
        if len(better) > 1:
            self.x, self.value = np.where(better[:, None], x, self.x), np.where(better, value, self.value)
        elif better:
            self.x, self.value = x, value


def _run_arrays(batch: ClosedFormBatch, optimizer: Optimizer, start: Tensor) -> tuple[_Best, Array, int, int]:
    """By the steps on arrays."""
    u, low, high = start.numpy(), batch.feasible.low.numpy(), batch.feasible.high.numpy()  # pyright: ignore[reportAttributeAccessIssue]
    look, change = look_of(optimizer, batch.critics, batch.steps), change_of(optimizer, batch.steps)
    best = first = None
    for t in range(batch.steps):
        values = look(u, t)
        assert values.grad is not None
        if best is None:
            first = -values.value
            best = _Best(u, first)
        else:
            best.update(u, -values.value)
        u = np.minimum(np.maximum(u - change(-values.grad, t), low), high)
    assert best is not None
    assert first is not None
    best.update(u, -batch.critics.values(u).value)
    return best, first, batch.steps + 1, batch.steps


def _run_tensors(batch: ClosedFormBatch, optimizer: Optimizer, x: Tensor) -> tuple[_Best, Array, int, int]:
    """By the optimiser itself."""
    state, forwards, backwards = optimizer.init(batch, x), 1, 0
    best = first = None
    for _ in range(batch.steps):
        step = optimizer.step(batch, x, state)
        value = step.evaluation.value.numpy()
        if best is None:
            first, best = value, _Best(x.numpy(), value)
        else:
            best.update(x.numpy(), value)
        forwards, backwards = forwards + step.cost.forwards, backwards + step.cost.backwards
        x, state = step.x, step.state
    assert best is not None
    assert first is not None
    best.update(x.numpy(), batch.evaluate(x).value.numpy())
    return best, first, forwards, backwards
