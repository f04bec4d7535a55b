"""The interface of every feasible set, and the whole space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor

from latentopt._deprecated import renamed_methods
from latentopt.batch_math import unit
from latentopt.errors import InputError, nonnegative
from latentopt.noise import Noise

Norm = Literal["linf", "l2"]


@renamed_methods(extreme="lmo")
class FeasibleSet(ABC):
    """A closed set of inputs, one for each sample of a batch. All but spheres are convex."""

    norm: Norm
    """The norm whose unit ball the set is closest to; steps are measured in it."""
    bounded = False
    """Whether it is a bounded box or ball, or one within the other: its radius is then the scale of a step."""
    round = False
    """Whether it is a Euclidean ball: steps scaled coordinate by coordinate end beside its optimum."""

    @abstractmethod
    def project(self, x: Tensor) -> Tensor:
        """Return the points of the set nearest to ``x`` (rows, *features) in the Euclidean norm."""

    @abstractmethod
    def sample(self, like: Tensor, noise: Noise) -> Tensor:
        """Draw random points in the shape, dtype and device of ``like`` (rows, *features)."""

    @abstractmethod
    def take(self, rows: Tensor) -> FeasibleSet:
        """Return the set for the samples ``rows`` (long), of a set for a batch (`broadcast_to`)."""

    def broadcast_to(self, shape: Sequence[int], like: Tensor) -> Self:
        """Return the set for inputs ``shape`` (B, *features), with tensors (1 or B, *features) like ``like``.

        `latentopt.Problem` calls it once; the other methods call it for the inputs that they are given.

        Raises:
            InputError: a tensor fits neither one input nor the batch.
        """
        return self

    @abstractmethod
    def radius(self, like: Tensor) -> Tensor:
        """Return how far the set reaches from its centre in its norm, broadcastable to ``like`` (rows, *features).

        It is the unit of step sizes: half the width of a box, by coordinate; ``eps`` of a ball; of the whole space, the
        typical norm of a random point.
        """

    @abstractmethod
    def lmo(self, grad: Tensor) -> Tensor:
        """Return the points with the least inner product with ``grad`` (rows, *features).

        Raises:
            InputError: the set is not bounded.
        """

    def steepest(self, grad: Tensor) -> Tensor:
        """Return the steps of norm 1 along which functions with gradients ``grad`` (rows, *features) rise most."""
        return grad.sign() if self.norm == "linf" else unit(grad)

    def _broadcast_for(self, x: Tensor) -> Self:
        """Return the set for inputs ``x`` (rows, *features), and remember that it fits: each step asks."""
        key = x.shape, x.dtype, x.device
        if self.__dict__.get("_fits") == key:
            return self
        own = self.broadcast_to(x.shape, x)
        object.__setattr__(own, "_fits", key)
        return own

    def _with(self, **values: float | Tensor) -> Self:
        """Return the set with other values, which are known to be right; itself where they are its own."""
        if all(value is getattr(self, name) for name, value in values.items()):
            return self
        changed = object.__new__(type(self))
        for name, value in values.items():
            object.__setattr__(changed, name, value)
        return changed


@dataclass(frozen=True)
class Free(FeasibleSet):
    """The whole space; random points are normal.

    Args:
        scale: standard deviation of the random points, >= 0.
    """

    norm = "l2"

    scale: float = 1.0

    def __post_init__(self) -> None:
        nonnegative("Free.scale", self.scale)

    def project(self, x: Tensor) -> Tensor:
        return x

    def sample(self, like: Tensor, noise: Noise) -> Tensor:
        return self.scale * noise.normal(like, "start")

    def take(self, rows: Tensor) -> Free:
        return self

    def radius(self, like: Tensor) -> Tensor:
        return torch.as_tensor(self.scale * like[0].numel() ** 0.5, dtype=like.dtype, device=like.device)

    def lmo(self, grad: Tensor) -> Tensor:
        raise InputError("feasible", "a bounded set", "the whole space")
