"""How often, and how, an agent's actions are refined while it learns (arXiv 2406.00494, eq. 12)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from latentopt._deprecated import renamed_keywords
from latentopt.errors import InputError, positive
from latentopt.optimizers import Optimizer
from latentopt.rl.critics import Reduce
from latentopt.rl.refine import Refiner


@renamed_keywords(box="radius")
@dataclass(frozen=True)
class Refinement:
    """How often and how an agent's actions are refined while it learns.

    Args:
        epsilon: probability, in [0, 1], that an action is refined; drawn for each environment at each step.
        optimizer: as for `refine_action`.
        steps: of the optimizer.
        radius: how far an action may move, in units of half the range of actions.
        critic: of several critics, which counts.
        restarts: as for `refine_action`.
    """

    epsilon: float = 0.5
    optimizer: Optimizer | str = "gd"
    steps: int = 10
    radius: float = 0.25
    critic: Reduce = "min"
    restarts: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.epsilon, int | float) or isinstance(self.epsilon, bool) or not 0 <= self.epsilon <= 1:
            raise InputError("epsilon", "a number in [0, 1]", repr(self.epsilon))
        positive("steps", self.steps, integer=True)
        positive("radius", self.radius)

    @classmethod
    def paper(cls, optimizer: str = "adr-gd-paper", epsilon: float = 0.5) -> Refinement:
        """Table 2's settings for DDPG and TD3: 100 steps on the first critic, within 1 of the actor."""
        return cls(epsilon, optimizer, steps=100, radius=1.0, critic="first")

    def refiner(self, critic: Any, low: Any = None, high: Any = None) -> Refiner:
        """What refines the actions of one critic."""
        return Refiner(critic, low, high, self.radius, self.optimizer, self.steps, self.critic, self.restarts)
