"""ADR-GD, Activation-Descent Regularisation (arXiv 2406.00494): descend in the input and in the activation gates.

A ReLU network is affine while no gate flips, and its gradient knows nothing beyond the boundary of the current region.
ADR-GD makes the gates variables of their own, so that the descent can see past that boundary.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from torch import Tensor

from latentopt.arguments import checked
from latentopt.optimizers.base import Optimizer, State, Step
from latentopt.optimizers.free_gates import FreeGates
from latentopt.optimizers.gate_rule import GateRule
from latentopt.optimizers.gd import GD
from latentopt.optimizers.row_norms import RowNorms
from latentopt.optimizers.soft_gates import SoftGates
from latentopt.optimizers.two_phase import TwoPhase
from latentopt.problem import Batch


class ADRGDState(NamedTuple):
    gates: State
    descent: State


@checked
@dataclass(frozen=True)
class ADRGD(Optimizer):
    """ADR-GD: gates give the direction, and a descent method takes the step.

    ``ADRGD()`` is the best form found for generators, from random starts (docs/research.md): fifteen long steps through
    soft gates in the early layers choose the basin, then L-BFGS converges in it. `ADRGD.paper` is the method as
    printed, `ADRGD.reference` the authors' code.

    Args:
        gates: `SoftGates` or `FreeGates`.
        descent: a method that asks for one gradient a step, at its iterate.

    Raises:
        InputError: (from the first step) the network calls no piecewise-linear activation, or the descent asks for
            another gradient.
    """

    drives_gates = True

    gates: GateRule = field(default_factory=lambda: SoftGates(1.0, steps=15, share=2 / 3))
    descent: Optimizer = field(default_factory=TwoPhase)

    @classmethod
    def paper(cls, a_x: float = 0.1, **settings: Any) -> ADRGD:
        """Return ADR-GD as the paper prints it: free gates, normalised gradients, constant steps.

        The constraint is a sum over all neurons, so `beta0` and `a_beta` must fit the scale of the objective. Under a
        mean squared error the constraint outweighs the objective with the defaults, but not with ``beta0=1e-3,
        a_beta=0, gamma=0``.

        Args:
            a_x: length of the input's steps, > 0.
            settings: arguments of `FreeGates`, named as in Algorithm 1 and Table 2 of the paper.

        Returns:
            The method.
        """
        return cls(replace(FreeGates(), **settings), GD(lr=a_x, normalize=True))

    @classmethod
    def reference(cls, a_x: float = 0.5, **settings: Any) -> ADRGD:
        """Return ADR-GD as the authors' published code runs it on random networks.

        Differences from the paper: a layer's constraint has only its greatest terms; the output is divided by the norm
        of its row; gradients are rescaled only if longer than 1; eta starts at .5 +- .01 and stays within [.3, .7];
        beta stays within [.2, 10]; norms are exact, every step. The defaults are the code's settings for the smallest
        network (A). For images the code also has ``resync=16``, ``scale="norm"`` and `RowNorms` with ``own_gate`` and
        a ``floor`` of 1. Unlike in the code, the feasible set is enforced; their attack leaves the pixel range.

        Args:
            a_x: step size of the input, > 0.
            settings: arguments of `FreeGates`.

        Returns:
            The method.
        """
        gates = FreeGates(
            a_eta=1.0,
            T_p=24,
            rescale="above one",
            reduce="max",
            start=0.01,
            reach=0.2,
            beta_min=0.2,
            beta_max=10.0,
            scale="row",
            row_norms=RowNorms("exact", refresh=1),
        )
        return cls(replace(gates, **settings), GD(lr=a_x, clip=1.0))

    @property
    def recovers(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """True if the descent continues from values that are not finite."""
        return self.descent.recovers

    def init(self, batch: Batch, x: Tensor) -> ADRGDState:
        return ADRGDState(self.gates.init(batch, x), self.descent.init(batch, x))

    def step(self, batch: Batch, x: Tensor, state: ADRGDState) -> Step:
        evaluation, grad, gates, cost, info = self.gates.direction(batch, x, state.gates)
        step = self.descent.step(batch.with_gradient(x, evaluation, grad), x, state.descent)
        info = {**step.info, **info} if batch.record else {}
        return Step(step.x, ADRGDState(gates, step.state), evaluation, cost, info)
