"""Two methods in a row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from latentopt.arguments import checked
from latentopt.errors import positive
from latentopt.optimizers.base import Optimizer, State, Step
from latentopt.optimizers.lbfgs import LBFGS
from latentopt.optimizers.pgd import PGD
from latentopt.problem import Batch


class TwoPhaseState(NamedTuple):
    t: int  # steps done
    first: State
    then: State


@checked
@dataclass(frozen=True)
class TwoPhase(Optimizer):
    """A method for the first steps, then another from where it ends.

    The history has the figures of the first method, which are NaN where the second has none of that name.

    Args:
        first: method of the first phase, which its schedule spans.
        steps: number of steps of the first phase, >= 1. A `patience` of `latentopt.solve` should be longer.
        then: method of the second phase.
    """

    first: Optimizer = field(default_factory=PGD)
    steps: int = 15
    then: Optimizer = field(default_factory=lambda: LBFGS(memory=64))

    def __post_init__(self) -> None:
        positive("TwoPhase.steps", self.steps, integer=True)

    @property
    def recovers(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """True if both methods continue from values that are not finite."""
        return self.first.recovers and self.then.recovers

    @property
    def gradient_free(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """True if neither method asks for a gradient."""
        return self.first.gradient_free and self.then.gradient_free

    @property
    def drives_gates(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """True if one of the two drives gates."""
        return self.first.drives_gates or self.then.drives_gates

    def init(self, batch: Batch, x: Tensor) -> TwoPhaseState:
        return TwoPhaseState(0, self.first.init(batch, x), self.then.init(batch, x))

    def step(self, batch: Batch, x: Tensor, state: TwoPhaseState) -> Step:
        t, first, then = state
        if t < self.steps:
            step = self.first.step(batch.with_steps(self.steps), x, first)
            return step._replace(state=TwoPhaseState(t + 1, step.state, then))
        step = self.then.step(batch, x, self.then.init(batch, x) if t == self.steps else then)
        return step._replace(state=TwoPhaseState(t + 1, first, step.state))
