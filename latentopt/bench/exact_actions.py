"""The exact maximum of a ReLU critic over a box of actions, by branch and bound: the box is split, bounds by CROWN.

Bounds as in Zhang et al. 2018 (arXiv 1811.00866): every ReLU lies between lines, so that Q does between affine
functions of the action.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import torch
from torch import Tensor

Affine = tuple[Tensor, Tensor]
"""Weight (out, in) and bias (out,) of a layer."""


class Maximum(NamedTuple):
    """What is known of the maximum."""

    value: float  # of the best action found
    bound: float  # no action has more
    x: Tensor  # (A,) the best action found
    boxes: int

    @property
    def gap(self) -> float:
        return self.bound - self.value


def maximum(layers: list[Affine], low: Tensor, high: Tensor, seconds: float, tolerance: float = 1e-3) -> Maximum:
    """The greatest value of ``layers``, with ReLUs between them, of actions in ``low <= u <= high`` (A,), float64.

    It ends when the gap is below ``tolerance``, or in so many CPU seconds.
    """
    begun, boxes, done = time.process_time(), (low[None], high[None]), 0
    best, best_x = -torch.inf, low
    bounds = torch.full((1,), torch.inf, dtype=low.dtype)
    while len(bounds) and float(bounds.max()) > best + tolerance and time.process_time() - begun < seconds:
        order = bounds.argsort(descending=True)
        now, later = order[:64], order[64:]
        lows, highs = _halves(boxes[0][now], boxes[1][now], layers[0][0])
        upper, corner = _upper(layers, lows, highs)
        done += len(upper)
        points = torch.cat([corner, (lows + highs) / 2])
        values = forward(layers, points)
        if float(values.max()) > best:
            best, best_x = float(values.max()), points[values.argmax()]
        boxes = torch.cat([boxes[0][later], lows]), torch.cat([boxes[1][later], highs])
        bounds = torch.cat([bounds[later], torch.minimum(upper, bounds[now].repeat(2))])
        open_ = bounds > best + tolerance / 2
        boxes, bounds = (boxes[0][open_], boxes[1][open_]), bounds[open_]
    bound = max(best + tolerance / 2, float(bounds.max())) if len(bounds) else best + tolerance / 2
    return Maximum(best, bound, best_x, done)


def forward(layers: list[Affine], u: Tensor) -> Tensor:
    """Values (rows,) of actions (rows, A)."""
    for weight, bias in layers[:-1]:
        u = torch.relu(u @ weight.T + bias)
    weight, bias = layers[-1]
    return (u @ weight.T + bias)[:, 0]


def _halves(low: Tensor, high: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Each box (K, A) cut in two where it matters most to the first layer; the lower halves, then the upper ones."""
    at = ((high - low) * weight.abs().sum(0)).argmax(1, keepdim=True)
    middle = (low.gather(1, at) + high.gather(1, at)) / 2
    return torch.cat([low, low.scatter(1, at, middle)]), torch.cat([high.scatter(1, at, middle), high])


def _upper(layers: list[Affine], low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """An upper bound (K,) of each box, and the corner (K, A) at which it is reached."""
    weight, bias = layers[0]
    middle, reach = (low + high) / 2, (high - low) / 2
    center, room = middle @ weight.T + bias, reach @ weight.abs().T
    bounds = [(center - room, center + room)]
    for index in range(1, len(layers) - 1):
        ones = torch.eye(len(layers[index][1]), dtype=low.dtype).expand(len(low), -1, -1)
        upper = _affine(layers[: index + 1], bounds, ones)
        lower = _affine(layers[: index + 1], bounds, -ones)
        bounds.append((-_greatest(lower, middle, reach), _greatest(upper, middle, reach)))
    one = torch.ones(len(low), 1, 1, dtype=low.dtype)
    slope, offset = _affine(layers, bounds, one)
    corner = torch.where(slope[:, 0] > 0, high, low)
    return _greatest((slope, offset), middle, reach)[:, 0], corner


def _greatest(line: Affine, middle: Tensor, reach: Tensor) -> Tensor:
    """Of affine functions ``(K, m, A), (K, m)`` over boxes (K, A): (K, m)."""
    slope, offset = line
    return offset + (slope @ middle[:, :, None])[..., 0] + (slope.abs() @ reach[:, :, None])[..., 0]


def _affine(layers: list[Affine], bounds: list[tuple[Tensor, Tensor]], row: Tensor) -> Affine:
    """Affine functions of the action above ``row @`` the pre-activations (K, m, out) of the last of the layers."""
    weight, bias = layers[-1]
    slope, offset = row @ weight, row @ bias
    for (weight, bias), (low, high) in zip(layers[-2::-1], bounds[len(layers) - 2 :: -1], strict=True):
        width = (high - low).clamp_min(torch.finfo(low.dtype).tiny)
        above = torch.where(low >= 0, 1.0, torch.where(high <= 0, 0.0, high / width))
        lift = torch.where((low < 0) & (high > 0), -low * high / width, 0.0)
        below = (high > -low).to(low.dtype)
        below = torch.where(low >= 0, 1.0, torch.where(high <= 0, 0.0, below))
        up = slope.clamp_min(0)
        offset = offset + (up @ lift[:, :, None])[..., 0]
        slope = up * above[:, None] + slope.clamp_max(0) * below[:, None]
        offset = offset + slope @ bias
        slope = slope @ weight
    return slope, offset
