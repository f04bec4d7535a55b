"""TD3 and DDPG that explore from refined actions (arXiv 2406.00494, eq. 12)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from latentopt._deprecated import old_names
from latentopt.errors import InputError
from latentopt.rl.extra import missing
from latentopt.rl.observations import map_arrays
from latentopt.rl.refine import RefinementSettings

try:
    from stable_baselines3 import DDPG, TD3
    from stable_baselines3.common.noise import ActionNoise
    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
except ModuleNotFoundError as error:
    raise missing(error) from error


__getattr__ = old_names(__name__)


class RefinedExplorationMixin(OffPolicyAlgorithm):
    """A mixin that refines the actor's action before exploration noise is added to it.

    As a base class it comes before the algorithm, which has a critic of actions.

    Args:
        policy: as of the algorithm.
        env: as of the algorithm.
        *args: further arguments of the algorithm.
        **kwargs: further arguments of the algorithm.
        refinement: how actions are refined; default `RefinementSettings()`. `load` restores it, and
            ``load(..., refinement=...)`` replaces it.

    The logger gets ``refine/gain``, the mean gain in Q of the actions that were refined. With ``epsilon=0`` the
    algorithm is the plain one, step for step: which actions are refined has random numbers of its own.

    Raises:
        InputError: the settings do not fit the critic.
    """

    def __init__(
        self, policy: Any, env: Any, *args: Any, refinement: RefinementSettings | None = None, **kwargs: Any
    ) -> None:
        self.refinement = RefinementSettings() if refinement is None else refinement
        super().__init__(policy, env, *args, **kwargs)

    def _setup_model(self) -> None:
        if not isinstance(self.refinement, RefinementSettings):
            raise InputError("refinement", "RefinementSettings", repr(self.refinement))
        super()._setup_model()
        critic: Any = self.critic  # pyright: ignore[reportAttributeAccessIssue]
        self.refiner = self.refinement.refiner(critic, -1.0, 1.0)
        if not hasattr(self, "refine_rng"):
            self.refine_rng = np.random.default_rng(self.seed)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "refiner"]

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        chosen = self.refine_rng.random(n_envs) < self.refinement.epsilon
        if self.num_timesteps < learning_starts or not chosen.any():
            return super()._sample_action(learning_starts, action_noise, n_envs)
        _, scaled = super()._sample_action(learning_starts, None, n_envs)
        scaled = scaled.copy()
        scaled[chosen] = self._refine(chosen, scaled[chosen])
        if action_noise is not None:
            scaled = np.clip(scaled + action_noise(), -1, 1)
        return self.policy.unscale_action(scaled), scaled

    def _refine(self, chosen: NDArray[np.bool_], scaled: NDArray[Any]) -> NDArray[Any]:
        """Refine scaled actions (n, A) of the chosen environments, a mask (n_envs,)."""
        observations, _ = self.policy.obs_to_tensor(self._last_obs)  # pyright: ignore[reportArgumentType]
        seed, rows = int(self.refine_rng.integers(2**31)), torch.from_numpy(chosen)
        result = self.refiner(map_arrays(lambda x: x[rows], observations), scaled, seed)
        self.logger.record_mean("refine/gain", result.gain.mean().item())
        return result.action.numpy()


class RefinedTD3(RefinedExplorationMixin, TD3):
    """TD3 of stable-baselines3 with refined actions; see `RefinedExplorationMixin`."""


class RefinedDDPG(RefinedExplorationMixin, DDPG):
    """DDPG of stable-baselines3 with refined actions; see `RefinedExplorationMixin`."""
