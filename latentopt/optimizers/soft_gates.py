"""Soft gates: ADR-GD's activation variables tied to the activation pattern (arXiv 2406.00494)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from latentopt.arguments import checked
from latentopt.errors import InputError, positive
from latentopt.gates import count_sites
from latentopt.optimizers.base import Cost
from latentopt.optimizers.gate_rule import Direction, GateRule, check_layers
from latentopt.problem import Batch


class SoftState(NamedTuple):
    t: int  # steps done
    sites: int  # of the network; 0 before the first step, or if they need not be counted


@checked
@dataclass(frozen=True)
class SoftGates(GateRule):
    """Gates tied to the activation pattern, softly: ``eta = 1/2 + z / (alpha tau rms(h))``.

    The network itself is evaluated as it is. Only the gradient passes through the gates ``sigmoid(z / (tau rms))``, so
    a closed neuron near its boundary shows what opening it would bring. The constraint of eq. 8 holds by construction,
    so neither beta nor norms are needed, and a step costs what a plain gradient costs.

    Gates that are soft in early layers and first steps alone, ``SoftGates(1.0, steps=15, share=2 / 3)``, are the
    default of `ADRGD`: early layers decide in which basin an image of a generator is sought; late ones draw its
    details, and mislead if they are soft.

    Args:
        tau: softness at the start, > 0, in units of the root mean square of a layer's pre-activations. The best value
            depends on the generator: 1 was best on a VAE decoder with six ReLU layers and misled the search on a
            DCGAN; .25 beat plain gradients on both.
        phase: share of the planned steps, in (0, 1], over which tau falls linearly to 0. Then the gates are the
            network's own.
        layers: numbers of the soft sites (`latentopt.gates.sites` lists them). None: all, or those of ``share``.
        steps: number of steps, >= 1, over which tau falls instead. None: ``phase`` counts.
        share: share of the network's activation layers, in (0, 1], that are soft, the early ones: rounded down, at
            least one. To count layers costs one forward in the first step. None: all layers.
    """

    tau: float = 0.25
    phase: float = 0.5
    layers: Sequence[int] | None = None
    steps: int | None = None
    share: float | None = None

    def __post_init__(self) -> None:
        positive("SoftGates.tau", self.tau)
        for name in ("phase", "share"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise InputError(f"SoftGates.{name}", "a number in (0, 1]", value)
        check_layers("SoftGates.layers", self.layers)
        if self.steps is not None:
            positive("SoftGates.steps", self.steps, integer=True)

    def init(self, batch: Batch, x: Tensor) -> SoftState:
        return SoftState(0, 0)

    def direction(self, batch: Batch, x: Tensor, state: SoftState) -> Direction:
        sites, forwards = state.sites, 1
        if self.share is not None and self.layers is None and not sites:
            sites, forwards = count_sites(batch.network, x), 2
        tau = self.tau * (1 - state.t / (self.steps or self.phase * batch.steps))
        if tau > 1e-3 * self.tau:
            evaluation, grad = batch.soft_gradient(x, tau, self._soft_layers(sites))
        else:
            evaluation, grad = batch.gradient(x)
        return Direction(evaluation, grad, SoftState(state.t + 1, sites), Cost(forwards, 1), {})

    def _soft_layers(self, sites: int) -> Sequence[int] | None:
        if self.layers is not None or self.share is None:
            return self.layers
        return tuple(range(max(1, int(self.share * sites + 1e-9))))


class EarlyGates(SoftGates):
    """Deprecated alias of ``SoftGates(1.0, steps=15, share=2 / 3)``.

    Args:
        tau: as of `SoftGates`.
        steps: as of `SoftGates`.
        share: as of `SoftGates`.
        layers: as of `SoftGates`, instead of a share.
    """

    def __new__(
        cls, tau: float = 1.0, steps: int = 15, share: float = 2 / 3, layers: Sequence[int] | None = None
    ) -> SoftGates:
        message = "EarlyGates is deprecated: use SoftGates(1.0, steps=15, share=2 / 3)"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return SoftGates(tau, layers=layers, steps=steps, share=share)

    def __init__(
        self, tau: float = 1.0, steps: int = 15, share: float = 2 / 3, layers: Sequence[int] | None = None
    ) -> None:
        """Never called, as `__new__` returns a `SoftGates`; recipes read the parameters here."""
