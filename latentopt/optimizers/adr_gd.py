"""ADR-GD, Activation-Descent Regularisation (arXiv 2406.00494): descend in the input and in the activation gates.

A ReLU network is affine as long as no gate flips, and its gradient knows nothing of what lies behind a flip. ADR-GD
makes the gates variables of their own, so that the descent can look past the border of the current region.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from torch import Tensor

from latentopt.optimizers.base import Optimizer, State, Step
from latentopt.optimizers.early_gates import EarlyGates
from latentopt.optimizers.free_gates import FreeGates
from latentopt.optimizers.gates import Gates
from latentopt.optimizers.gd import GD
from latentopt.optimizers.row_norms import RowNorms
from latentopt.optimizers.two_phase import TwoPhase
from latentopt.problem import Batch


class ADRGDState(NamedTuple):
    gates: State
    descent: State


@dataclass(frozen=True)
class ADRGD(Optimizer):
    """ADR-GD: the gates say along which direction the input descends, `descent` takes the step.

    ``ADRGD()`` is the best form found for generators, from random starts (docs/research.md): fifteen long steps through
    soft gates in the early layers choose the basin, L-BFGS goes to its bottom. `ADRGD.paper` is the method as printed,
    `ADRGD.reference` what the authors' code does.

    Args:
        gates: `EarlyGates`, `SoftGates` or `FreeGates`.
        descent: what the input does with its gradient: a method that asks for one gradient a step, at its iterate.

    Raises:
        InputError: (from the first step) the network calls no piecewise-linear activation, or the descent asks for
            another gradient.
    """

    gates: Gates = field(default_factory=EarlyGates)
    descent: Optimizer = field(default_factory=TwoPhase)

    @classmethod
    def paper(cls, a_x: float = 0.1, **settings: Any) -> ADRGD:
        """ADR-GD as the paper prints it: free gates, normalised gradients, constant steps.

        The constraint is a sum over all neurons, so `beta0` and `a_beta` must fit the scale of the objective; under a
        mean squared error the defaults let the constraint drown it (``beta0=1e-3, a_beta=0, gamma=0`` does not).

        Args:
            a_x: length of the input's steps, > 0.
            settings: any of `FreeGates`' arguments, named as in Algorithm 1 and Table 2 of the paper.
        """
        return cls(replace(FreeGates(), **settings), GD(lr=a_x, normalize=True))

    @classmethod
    def reference(cls, a_x: float = 0.5, **settings: Any) -> ADRGD:
        """ADR-GD as the authors' published code runs it on random networks; for reproduction.

        Unlike the paper: of each layer's constraint only the greatest terms; the output divided by the norm of its row;
        gradients rescaled only when longer than 1; eta starts at .5 +- .01 and stays within [.3, .7]; beta stays within
        [.2, 10]; exact norms every step. The defaults are the code's settings for the smallest network (A). For images
        it also has ``resync=16``, ``scale="norm"`` and `RowNorms` with ``own_gate`` and a ``floor`` of 1. The feasible
        set is enforced as everywhere; their attack on images leaves the pixel range.

        Args:
            a_x: step size of the input, > 0.
            settings: any of `FreeGates`' arguments.
        """
        theirs = FreeGates(
            a_eta=1.0,
            T_p=24,
            rescale="above one",
            reduce="max",
            start=0.01,
            reach=0.2,
            beta_min=0.2,
            beta_max=10.0,
            scale="row",
            distances=RowNorms("exact", refresh=1),
        )
        return cls(replace(theirs, **settings), GD(lr=a_x, clip=1.0))

    @property
    def recovers(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.descent.recovers

    @property
    def arithmetic(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.gates.arithmetic and self.descent.arithmetic

    def init(self, batch: Batch, x: Tensor) -> ADRGDState:
        return ADRGDState(self.gates.init(batch, x), self.descent.init(batch, x))

    def step(self, batch: Batch, x: Tensor, state: ADRGDState) -> Step:
        look = self.gates.look(batch, x, state.gates)
        step = self.descent.step(batch.with_gradient(x, look.here, look.grad), x, state.descent)
        info = {**step.info, **look.info} if batch.record else {}
        return Step(step.x, ADRGDState(look.state, step.state), look.here, look.cost, info)
