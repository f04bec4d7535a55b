"""A trained agent whose every action is refined, with the interface of stable-baselines3's models."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from latentopt._deprecated import renamed_keywords
from latentopt.errors import InputError
from latentopt.optimizers import Optimizer
from latentopt.rl.critics import Reduce
from latentopt.rl.normalization import as_normalization
from latentopt.rl.normalization_checks import warn_if_unlike
from latentopt.rl.refine import Refined, Refiner

Array = NDArray[Any]


@renamed_keywords(box="radius")
class RefinedPolicy:
    """`refine_action` behind ``predict``: what takes a model of stable-baselines3 to act takes this too.

    Args:
        model: of TD3, DDPG, SAC or TQC; or anything like one: ``predict``, ``critic``, ``action_space`` (a Box), and
            ``policy.obs_to_tensor``.
        radius, optimizer: as for `refine_action`; the defaults won where returns were measured (docs/agents.md).
            A critic without piecewise-linear activations has no gates: say ``optimizer="adam"``.
        steps, critic, restarts: as for `refine_action`.
        seed: of the methods that draw random numbers; the same at every call.
        normalization: what the agent's observations were normalised by in training: a `VecNormalize`, a file of its
            statistics, or a `latentopt.rl.normalization.Normalization`; observations are then those of the environment.
            None: they are as the model's own ``predict`` takes them.

    Raises:
        InputError: the model has no critic of continuous actions, or a setting is not as described there.
    """

    def __init__(
        self,
        model: Any,
        radius: float = 0.25,
        optimizer: Optimizer | str = "adr-gd",
        steps: int = 20,
        critic: Reduce = "min",
        restarts: int | None = None,
        seed: int = 0,
        normalization: Any = None,
    ) -> None:
        for name in ("predict", "policy", "action_space"):
            if not hasattr(model, name):
                raise InputError("model", "a model of stable-baselines3", type(model).__name__)
        space = model.action_space
        if type(space).__name__ != "Box":
            raise InputError("model", "a model with continuous actions (Box)", f"{type(space).__name__} actions")
        if getattr(model, "critic", None) is None:
            raise InputError("model", "a model with a critic of actions (TD3, DDPG, SAC, TQC)", type(model).__name__)
        self.model, self.seed = model, seed
        self.normalization, self.warned = as_normalization(normalization), False
        self.refiner = Refiner(model.critic, space.low, space.high, radius, optimizer, steps, critic, restarts)

    @property
    def action_space(self) -> Any:
        return self.model.action_space

    @property
    def observation_space(self) -> Any:
        return self.model.observation_space

    def refine(self, observation: Any, deterministic: bool = False) -> Refined:
        """The refined actions and what the critic says of them.

        Args:
            observation: one, or a batch (B, *obs).
            deterministic: start from the actor's action without noise.
        """
        return self._refined(observation, None, None, deterministic)[0]

    def predict(
        self,
        observation: Any,
        state: tuple[Array, ...] | None = None,
        episode_start: Array | None = None,
        deterministic: bool = False,
    ) -> tuple[Array, tuple[Array, ...] | None]:
        """Actions as the model's own ``predict`` gives them, refined.

        Args:
            observation: one, or a batch (B, *obs), as the model takes it, or before ``normalization``.
            state: handed on to the model, like ``episode_start``.
            episode_start: see ``state``.
            deterministic: start from the actor's action without noise.

        Returns:
            The action (A,) of one observation, or (B, A), and the model's state.
        """
        found, state, batched = self._refined(observation, state, episode_start, deterministic)
        actions = found.action.numpy().astype(self.action_space.dtype, copy=False)
        return actions if batched else actions[0], state

    def _refined(
        self, observation: Any, state: Any, episode_start: Any, deterministic: bool
    ) -> tuple[Refined, Any, bool]:
        if self.normalization is not None:
            observation = self.normalization(observation)
        elif not self.warned:
            self.warned = warn_if_unlike(self.model, observation, stacklevel=3)
        actions, state = self.model.predict(observation, state, episode_start, deterministic)
        observations, _ = self.model.policy.obs_to_tensor(observation)
        if not isinstance(observations, torch.Tensor):
            raise InputError("observation", "an array (a Box space)", type(observation).__name__)
        batched = np.ndim(actions) == 2
        return self.refiner(observations, np.atleast_2d(actions), self.seed), state, batched
