"""A trained agent whose every action is refined, with the interface of stable-baselines3's models."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentopt._deprecated import renamed_keywords
from latentopt.errors import InputError, in_one_line
from latentopt.optimizers import Optimizer
from latentopt.rl.agents import Agent, normalization_for
from latentopt.rl.critics import Reduce
from latentopt.rl.normalization_checks import warn_if_unlike
from latentopt.rl.refine import RefinementResult, Refiner

Array = NDArray[Any]


@renamed_keywords(box="radius")
class RefinedPolicy:
    """A trained model with `refine_action` behind its ``predict``.

    Args:
        model: a model of TD3, DDPG, SAC, TQC or CrossQ; an agent that `load_agent` loaded with its environment; or
            anything with ``predict``, ``critic``, ``action_space`` (a Box) and ``policy.obs_to_tensor``.
        radius: as for `refine_action`, like ``optimizer``, ``steps``, ``critic`` and ``restarts``. The defaults won
            where returns were measured (docs/agents.md).
        optimizer: as for `refine_action`.
        steps: of the method.
        critic: of several critics, the one that counts.
        restarts: starts of each observation.
        seed: of the methods that draw random numbers; the same at every call.
        normalization: the normalisation of observations in training: a `VecNormalize`, a file of its statistics, or a
            `latentopt.rl.normalization.Normalization`; observations are then those of the environment. None: they are
            as the model's own ``predict`` takes them.

    Raises:
        InputError: the model has no critic of continuous actions, or a setting is not as described there.
    """

    def __init__(
        self,
        model: Any,
        radius: float = 0.25,
        optimizer: Optimizer | str = "adr-gd-critic",
        steps: int = 20,
        critic: Reduce = "min",
        restarts: int = 1,
        seed: int = 0,
        normalization: Any = None,
    ) -> None:
        for name in ("predict", "policy", "action_space"):
            if not hasattr(model, name):
                raise InputError("model", "a model of stable-baselines3", type(model).__name__)
        space = model.action_space
        if isinstance(model, Agent) and space is None:
            raise InputError("model", "an agent with its environment: load_agent(path, environment)", "one without")
        if type(space).__name__ != "Box":
            raise InputError("model", "a model with continuous actions (Box)", f"{type(space).__name__} actions")
        if getattr(model, "critic", None) is None:
            raise InputError(
                "model", "a model with a critic of actions (TD3, DDPG, SAC, TQC, CrossQ)", type(model).__name__
            )
        self.model, self.seed = model, seed
        normal = normalization_for(model, normalization)
        self.normalization, self.has_warned = None if isinstance(model, Agent) else normal, False
        self.refiner = Refiner(model.critic, space.low, space.high, radius, optimizer, steps, critic, restarts)

    @property
    def action_space(self) -> Any:
        """The model's action space."""
        return self.model.action_space

    @property
    def observation_space(self) -> Any:
        """The model's observation space."""
        return self.model.observation_space

    def refine(self, observation: Any, deterministic: bool = False) -> RefinementResult:
        """Return the refined actions and their values.

        Args:
            observation: one, or a batch (B, *obs), or a dictionary of such.
            deterministic: start from the actor's action without noise.

        Returns:
            `RefinementResult` of the batch (B = 1 of one observation).
        """
        return self._refine(observation, None, None, deterministic)[0]

    def predict(
        self,
        observation: Any,
        state: tuple[Array, ...] | None = None,
        episode_start: Array | None = None,
        deterministic: bool = False,
    ) -> tuple[Array, tuple[Array, ...] | None]:
        """Return the model's actions, refined.

        Args:
            observation: one, or a batch (B, *obs), or a dictionary of such, as the model takes it, or before
                ``normalization``.
            state: handed on to the model, like ``episode_start``.
            episode_start: see ``state``.
            deterministic: start from the actor's action without noise.

        Returns:
            The action (A,) of one observation, or (B, A), and the model's state.
        """
        result, state, batched = self._refine(observation, state, episode_start, deterministic)
        actions = result.action.numpy().astype(self.action_space.dtype, copy=False)
        return actions if batched else actions[0], state

    def _refine(
        self, observation: Any, state: Any, episode_start: Any, deterministic: bool
    ) -> tuple[RefinementResult, Any, bool]:
        if self.normalization is not None:
            observation = self.normalization(observation)
        elif not self.has_warned:
            self.has_warned = warn_if_unlike(self.model, observation)
        try:
            actions, state = self.model.predict(observation, state, episode_start, deterministic)
            observations, _ = self.model.policy.obs_to_tensor(observation)
        except InputError:
            raise
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            reason = in_one_line(error)
            raise InputError("observation", f"one of {self.observation_space}, or a batch of them", reason) from error
        if not actions.size or not bool(np.isfinite(actions).all()):
            expected = "one or more that the actor answers with finite actions"
            raise InputError("observation", expected, "NaN or infinity" if actions.size else "none")
        batched = np.ndim(actions) == 2
        return self.refiner(observations, np.atleast_2d(actions), self.seed), state, batched
