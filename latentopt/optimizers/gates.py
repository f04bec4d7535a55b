"""What ADR-GD's gates are: how they move, and along which direction they say the input is to descend."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from latentopt.errors import InputError
from latentopt.optimizers.base import Cost, State
from latentopt.problem import Batch, Evaluation


class Look(NamedTuple):
    """What the gates say at a point."""

    here: Evaluation  # of the real network
    grad: Tensor  # (B, *shape) the direction the input descends along
    state: State  # of the gates, moved on
    cost: Cost
    info: dict[str, Tensor]  # name to (B,)


class Gates(ABC):
    """How the gates move, and what they say of the descent. Frozen: hyperparameters only."""

    arithmetic = False  # as of `latentopt.optimizers.Optimizer`

    @abstractmethod
    def init(self, batch: Batch, x: Tensor) -> State:
        """The gates' state at the start ``x`` (B, *shape)."""

    @abstractmethod
    def look(self, batch: Batch, x: Tensor, state: State) -> Look:
        """The direction the input is to descend along from ``x``, and the gates' next state. Pure."""


def check_layers(name: str, layers: Sequence[int] | None) -> None:
    """Raise `InputError` unless ``layers`` are sites, or None."""
    if layers is not None and not (layers and all(type(site) is int and site >= 0 for site in layers)):
        raise InputError(name, "site numbers >= 0 (latentopt.gates.sites lists them), at least one", repr(layers))
