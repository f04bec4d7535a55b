"""Soft gates: ADR-GD's activation variables tied to the activation pattern (arXiv 2406.00494)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from latentopt.errors import InputError, positive
from latentopt.optimizers.base import Cost
from latentopt.optimizers.gates import Gates, Look, check_layers
from latentopt.problem import Batch


class SoftState(NamedTuple):
    t: int  # steps done


@dataclass(frozen=True)
class SoftGates(Gates):
    """Gates tied to the activation pattern, softly: ``eta = 1/2 + z / (alpha tau rms(h))``.

    The network itself is evaluated as it is; only the gradient passes through the gates ``sigmoid(z / (tau rms))``,
    so that a closed neuron near its border still tells what opening it would bring. The constraint of eq. 8 holds by
    construction, so neither beta nor norms are needed and a step costs what a plain gradient costs.

    Args:
        tau: softness at the start, > 0, in units of the root mean square of a layer's pre-activations. It matters by
            generator: 1 was best on a VAE decoder with six ReLU layers and misled the search on a DCGAN; .25 beat
            plain gradients on both.
        phase: share of the steps, in (0, 1], over which tau falls linearly to 0; from then on the gates are the
            network's own.
        layers: sites that are softened (`latentopt.gates.sites` lists them); None: all.
    """

    tau: float = 0.25
    phase: float = 0.5
    layers: Sequence[int] | None = None

    def __post_init__(self) -> None:
        positive("SoftGates.tau", self.tau)
        if not 0 < self.phase <= 1:
            raise InputError("SoftGates.phase", "a number in (0, 1]", self.phase)
        check_layers("SoftGates.layers", self.layers)

    arithmetic = True

    def init(self, batch: Batch, x: Tensor) -> SoftState:
        return SoftState(0)

    def look(self, batch: Batch, x: Tensor, state: SoftState) -> Look:
        tau = self.tau * (1 - state.t / (self.phase * batch.steps))
        if tau > 1e-3 * self.tau:
            here, grad = batch.soft_gradient(x, tau, self.layers)
        else:
            here, grad = batch.gradient(x)
        return Look(here, grad, SoftState(state.t + 1), Cost(1, 1), {})
