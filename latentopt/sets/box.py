"""Boxes: bounds for each coordinate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from latentopt.arguments import Values, as_values
from latentopt.batch_math import cpu_tensor
from latentopt.errors import InputError
from latentopt.noise import Noise
from latentopt.sets.base import FeasibleSet
from latentopt.sets.bounds import broadcast, check_shapes, take_rows


@dataclass(frozen=True, eq=False, init=False)
class Box(FeasibleSet):
    """The points ``low <= x <= high``, elementwise; random points are uniform.

    Args:
        low: lower bounds, in a shape that `latentopt.sets` describes; minus infinity: none.
        high: upper bounds; infinity: none.

    Raises:
        InputError: they are no numbers, of shapes that do not fit, NaN, or ``low`` exceeds ``high`` somewhere.

    >>> Box([-1.0, 0.0], 1.0).project(torch.tensor([[-3.0, 0.5], [0.5, -3.0]]))
    tensor([[-1.0000,  0.5000],
            [ 0.5000,  0.0000]])
    """

    norm = "linf"

    low: float | Tensor
    high: float | Tensor

    def __init__(self, low: Values, high: Values) -> None:
        object.__setattr__(self, "low", as_values("Box.low", low))
        object.__setattr__(self, "high", as_values("Box.high", high))
        _check_order(self.low, self.high)

    @property
    def bounded(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """True if every bound is finite."""
        return all(bool(cpu_tensor(bound).isfinite().all()) for bound in (self.low, self.high))

    def broadcast_to(self, shape: Sequence[int], like: Tensor) -> Self:
        return self._with(
            low=broadcast("Box.low", self.low, shape, like), high=broadcast("Box.high", self.high, shape, like)
        )

    def project(self, x: Tensor) -> Tensor:
        if isinstance(self.low, Tensor) or isinstance(self.high, Tensor):
            return x.clamp(*self._bounds(x))
        return x.clamp(self.low, self.high)

    def sample(self, like: Tensor, noise: Noise) -> Tensor:
        if not self.bounded:
            raise InputError("feasible", "a bounded set for random points, or a start", "a box that is open somewhere")
        low, high = self._bounds(like)
        return self.project(low + (high - low) * noise.uniform(like, "start"))

    def _bounds(self, like: Tensor) -> tuple[Tensor, Tensor]:
        own = self._broadcast_for(like)
        low, high = (torch.as_tensor(bound, dtype=like.dtype, device=like.device) for bound in (own.low, own.high))
        return low, high

    def take(self, rows: Tensor) -> Box:
        return self._with(low=take_rows(self.low, rows), high=take_rows(self.high, rows))

    def radius(self, like: Tensor) -> Tensor:
        low, high = self._bounds(like)
        return (high - low) / 2

    def lmo(self, grad: Tensor) -> Tensor:
        if not self.bounded:
            raise InputError("feasible", "a bounded set", "a box that is open somewhere")
        low, high = self._bounds(grad)
        return torch.where(grad > 0, low, high).expand_as(grad)


def _check_order(low: float | Tensor, high: float | Tensor) -> None:
    """Raise `InputError` unless ``low <= high`` everywhere, and a number lies between."""
    if isinstance(low, Tensor) and isinstance(high, Tensor):
        high = high.to(low.device)
    check_shapes("Box.low", "high", low, high)
    valid = cpu_tensor((low <= high) & (low < torch.inf) & (high > -torch.inf))
    if not bool(valid.all()):
        index = (~valid).nonzero()[0].tolist()
        first_low, first_high = (cpu_tensor(b).expand(valid.shape)[tuple(index)].item() for b in (low, high))
        where = f" at {index}" if index else ""
        raise InputError("Box", "low <= high everywhere", f"low {first_low:g}, high {first_high:g}{where}")
