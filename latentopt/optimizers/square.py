"""Square Attack (Andriushchenko et al. 2020, arXiv 1912.00049): random search by square windows, without gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from latentopt.arguments import checked
from latentopt.batch_math import unit, where_rows
from latentopt.errors import within
from latentopt.optimizers.base import Cost, Optimizer, Step
from latentopt.problem import Batch

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Steps, of 10,000, at which the share of changed pixels is halved (the paper's supplement B)."""


class SquareState(NamedTuple):
    t: int  # steps done
    best: Tensor  # (B, *shape) the best point so far
    value: Tensor  # (B,) its objective; infinite before the first step


@checked
@dataclass(frozen=True)
class Square(Optimizer):
    """Square Attack: each step moves one window of the best point, each channel in a random direction.

    In sets measured in Linf the window moves by twice the set's radius and is projected, nearly always to an edge, as
    in the paper. In sets measured in L2 it moves by a vector of that length, unlike in the paper. The first step tries
    vertical stripes. A step costs one forward and no backward.

    Args:
        p: share of the pixels in a window at the start, in (0, 1]; it falls over the planned steps as in the paper. A
            window is a square of each channel of inputs (C, H, W), and a stretch of other inputs, flattened.
    """

    p: float = 0.8
    recovers = True
    gradient_free = True

    def __post_init__(self) -> None:
        within("Square.p", self.p, 0, 1, "(]")

    def init(self, batch: Batch, x: Tensor) -> SquareState:
        return SquareState(0, x, x.new_full((len(x),), torch.inf))

    def step(self, batch: Batch, x: Tensor, state: SquareState) -> Step:
        evaluation = batch.evaluate(x)
        better = evaluation.value < state.value
        best, value = where_rows(better, x, state.best), torch.where(better, evaluation.value, state.value)
        sides = _stripes(batch, x) if state.t == 0 else self._window(batch, x, state.t)
        length = (1 if state.t == 0 else 2) * batch.feasible.radius(x)
        move = length * (sides if batch.feasible.norm == "linf" else unit(sides))
        return Step(batch.feasible.project(best + move), SquareState(state.t + 1, best, value), evaluation, Cost(1, 0))

    def _window(self, batch: Batch, x: Tensor, t: int) -> Tensor:
        """Draw a window with a sign for each channel, (B, *shape), 0 outside."""
        share = self.p / 2 ** sum(10_000 * t / batch.steps > halving for halving in _HALVINGS)
        pictures = _as_pictures(x)
        channels, height, width = pictures.shape[1:]
        side = (share * height * width) ** 0.5 if height > 1 else share * width
        tall, wide = (min(max(round(side), 1), size) for size in (height, width))
        corner = batch.noise.uniform(x.new_empty(len(x), 2), "square", t)
        top, left = (corner * corner.new_tensor([height - tall + 1, width - wide + 1])).long().T[:, :, None]
        rows, columns = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
        across, down = (rows >= top) & (rows < top + tall), (columns >= left) & (columns < left + wide)
        inside = across[:, None, :, None] & down[:, None, None, :]
        signs = _signs(batch, x.new_empty(len(x), channels, 1, 1), t)
        return (signs * inside).reshape(x.shape)


def _stripes(batch: Batch, x: Tensor) -> Tensor:
    """Draw a sign for each column of each channel, (B, *shape)."""
    pictures = _as_pictures(x)
    return _signs(batch, pictures[:, :, :1], 0).expand_as(pictures).reshape(x.shape)


def _signs(batch: Batch, like: Tensor, t: int) -> Tensor:
    return 1 - 2 * (batch.noise.uniform(like, "side", t) < 0.5).to(like.dtype)


def _as_pictures(x: Tensor) -> Tensor:
    """Reshape to (B, C, H, W); other inputs become one row."""
    return x if x.ndim == 4 else x.reshape(len(x), 1, 1, -1)
