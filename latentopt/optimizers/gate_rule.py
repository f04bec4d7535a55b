"""The interface of ADR-GD's gates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from latentopt._deprecated import renamed_methods
from latentopt.errors import InputError
from latentopt.optimizers.base import Cost, State
from latentopt.problem import Batch, Evaluation


class Direction(NamedTuple):
    """A direction to descend along, and the gates after it was computed."""

    evaluation: Evaluation  # of the real network
    grad: Tensor  # (B, *shape) the input descends along it
    state: State  # the gates' next state
    cost: Cost
    info: dict[str, Tensor]  # name to (B,)


@renamed_methods(look="direction")
class GateRule(ABC):
    """A rule for how gates move and which direction they give. Frozen: hyperparameters only."""

    @abstractmethod
    def init(self, batch: Batch, x: Tensor) -> State:
        """Return the gates' state before the first step.

        Args:
            batch: the rows to optimise.
            x: (B, *shape), the start.

        Returns:
            The gates' state.
        """

    @abstractmethod
    def direction(self, batch: Batch, x: Tensor, state: State) -> Direction:
        """Return the direction to descend along, and the gates' next state. Pure.

        Args:
            batch: the rows to optimise.
            x: (B, *shape), the iterate.
            state: the gates' state.

        Returns:
            The direction, the next state, the evaluation at ``x``, and the cost.
        """


def check_layers(name: str, layers: Sequence[int] | None) -> None:
    """Raise `InputError` unless ``layers`` are numbers of sites, or None."""
    if layers is not None and not (layers and all(type(site) is int and site >= 0 for site in layers)):
        raise InputError(name, "site numbers >= 0 (latentopt.gates.sites lists them), at least one", repr(layers))
