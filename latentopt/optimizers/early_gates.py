"""Soft gates in the early layers, in the first steps: ADR-GD's activation variables where they choose the basin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from latentopt.errors import InputError, positive
from latentopt.gates import count_sites
from latentopt.optimizers.base import Cost
from latentopt.optimizers.gates import Gates, Look, check_layers
from latentopt.problem import Batch


class EarlyState(NamedTuple):
    t: int  # steps done
    sites: int  # of the network; 0 before the first step


@dataclass(frozen=True)
class EarlyGates(Gates):
    """Gates tied to the activation pattern, softly, in the early layers and in the first steps; then the network's own.

    As with `SoftGates`, the network is evaluated as it is, and only the gradient passes through
    ``sigmoid(z / (tau rms))``, so that a closed neuron near its border still tells what opening it would bring. Early
    layers alone: they decide in which basin an image of a generator is sought; late ones draw its details, and
    mislead where they are soft. In front of `PGD()`'s steps they help attacks, too (tau .25). A step costs what a plain
    gradient costs; the first a forward more, to count layers.

    Args:
        tau: softness at the start, > 0, in units of the root mean square of a layer's pre-activations.
        steps: over which tau falls linearly to 0, >= 1.
        share: of the network's activation layers, in (0, 1], that are early: rounded down, but at least one.
        layers: sites that are softened, instead of a share (`latentopt.gates.sites` lists them).
    """

    tau: float = 1.0
    steps: int = 15
    share: float = 2 / 3
    layers: Sequence[int] | None = None

    def __post_init__(self) -> None:
        positive("EarlyGates.tau", self.tau)
        positive("EarlyGates.steps", self.steps, integer=True)
        if not 0 < self.share <= 1:
            raise InputError("EarlyGates.share", "a number in (0, 1]", self.share)
        check_layers("EarlyGates.layers", self.layers)

    def init(self, batch: Batch, x: Tensor) -> EarlyState:
        return EarlyState(0, 0)

    def look(self, batch: Batch, x: Tensor, state: EarlyState) -> Look:
        sites = state.sites or count_sites(batch.network, x)
        if state.t < self.steps:
            layers = self.layers or range(max(1, int(self.share * sites + 1e-9)))
            here, grad = batch.soft_gradient(x, self.tau * (1 - state.t / self.steps), tuple(layers))
        else:
            here, grad = batch.gradient(x)
        return Look(here, grad, EarlyState(state.t + 1, sites), Cost(1 if state.sites else 2, 1), {})
