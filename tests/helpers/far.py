"""A cheap environment whose observations are large numbers, and agents that learn in it for a moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import stable_baselines3 as sb3
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

FAR, NEAR = "latentopt-far-v3", "latentopt-near-v0"
LENGTH = 30


class Far(gymnasium.Env):
    """A point that is pushed along a line, and is paid for being at 0; seen in units of its own."""

    metadata = {"render_modes": ["rgb_array"]}
    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Box(-2, 2, (1,), np.float32)

    def __init__(self, scale: float = 1000.0, offset: float = 5000.0, render_mode: str | None = None) -> None:
        self.scale, self.offset, self.render_mode = scale, offset, render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.x, self.v, self.steps = float(self.np_random.uniform(-1, 1)), 0.0, 0
        return self._seen(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.v = 0.8 * self.v + 0.1 * float(action[0])
        self.x, self.steps = self.x + 0.3 * self.v, self.steps + 1
        return self._seen(), -(self.x**2), False, self.steps >= LENGTH, {}

    def _seen(self) -> Any:
        return np.array([self.x * self.scale + self.offset, self.v * self.scale], np.float32)


def _far(**settings: Any) -> Any:
    return Far(**settings)


for name, scale, offset in ((FAR, 1000.0, 5000.0), (NEAR, 1.0, 0.0)):
    if name not in gymnasium.registry:
        gymnasium.register(name, _far, kwargs={"scale": scale, "offset": offset})


def learned(kind: str, env: str = FAR, normalize: bool = True, steps: int = 300, **settings: Any) -> tuple[Any, Any]:
    """An agent that learned for so many steps, and its VecNormalize."""
    venv: Any = make_vec_env(env, 1, seed=0)
    if normalize or settings:
        venv = VecNormalize(venv, **settings)
    rest = {"n_steps": 100, "batch_size": 50} if kind == "PPO" else {"learning_starts": steps // 2}
    agent = getattr(sb3, kind)("MlpPolicy", venv, policy_kwargs={"net_arch": [16, 16]}, seed=0, device="cpu", **rest)
    return agent.learn(steps), venv


def write_learned(folder: Path, kind: str, **settings: Any) -> Path:
    """The same as files: ``agent.zip``, and ``statistics.pkl`` of one that was normalised."""
    agent, venv = learned(kind, **settings)
    agent.save(folder / "agent.zip")
    if isinstance(venv, VecNormalize):
        venv.save(str(folder / "statistics.pkl"))
    return folder / "agent.zip"


def true_returns(agent: Any, statistics: Path, seeds: range, env: str = FAR) -> list[float]:
    """Returns as stable-baselines3 itself gets them, by its own VecNormalize."""
    venv = VecNormalize.load(str(statistics), DummyVecEnv([lambda: gymnasium.make(env)]))
    venv.training = venv.norm_reward = False
    returns = []
    for seed in seeds:
        venv.seed(seed)
        observation, total, over = venv.reset(), 0.0, False
        while not over:
            action, _ = agent.predict(observation, deterministic=True)
            observation, reward, done, _ = venv.step(action)
            total, over = total + float(reward[0]), bool(done[0])
        returns.append(total)
    return returns
