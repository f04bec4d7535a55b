"""Tiny environments of any spaces, registered with gymnasium under a name for the tests."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

STEPS = 3
BOUNDS = spaces.Box(np.array([-3.0, 0.0], np.float32), np.array([1.0, 0.5], np.float32))
"""Asymmetric bounds of two actions."""


class Room(gymnasium.Env):
    """Shows random observations for three steps; the reward is the sum of the action.

    Args:
        observations: space of the observations.
        actions: space of the actions.
        reward: what a sum of actions is returned as.
    """

    def __init__(self, observations: Any, actions: Any = BOUNDS, reward: Any = float, **options: Any) -> None:
        self.observation_space, self.action_space, self.reward = deepcopy(observations), actions, reward

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.left = STEPS
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(np.asarray(action, self.action_space.dtype))
        self.left -= 1
        return self.observation_space.sample(), self.reward(np.sum(action)), self.left == 0, False, {}


def register(name: str, **arguments: Any) -> str:
    """Register a `Room` under a name, in place of an earlier one; return the name."""
    gymnasium.registry.pop(name, None)
    gymnasium.register(name, lambda **options: Room(**arguments, **options), disable_env_checker=True)
    return name
