"""An agent trained with refined actions, and the learning curve of its actor."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from latentopt._deprecated import old_names
from latentopt.errors import InputError, nonnegative, positive
from latentopt.rl.algorithms import RefinedDDPG, RefinedExplorationMixin, RefinedTD3
from latentopt.rl.extra import missing
from latentopt.rl.learning_curve import CurvePoint
from latentopt.rl.observations import check_continuous
from latentopt.rl.refine import RefinementSettings
from latentopt.rl.rollout import make_environment, play_seeds

try:
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.logger import Logger
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.noise import NormalActionNoise
except ModuleNotFoundError as error:
    raise missing(error) from error

Algorithm = Literal["td3", "ddpg"]
ALGORITHMS: dict[str, type[RefinedExplorationMixin]] = {"td3": RefinedTD3, "ddpg": RefinedDDPG}


__getattr__ = old_names(__name__)


@dataclass(frozen=True)
class TrainingSettings:
    """Environment, algorithm and arguments of a training, where they are not stable-baselines3's defaults.

    Args:
        env: a gymnasium environment's name; actions are continuous and have finite bounds.
        algorithm: td3 or ddpg.
        refinement: None: the plain algorithm.
        steps: of the environment.
        hidden: widths of the hidden layers of actor and critics.
        lr: learning rate.
        batch_size: of a gradient step.
        learning_starts: steps of random actions at first.
        noise: standard deviation of exploration's Gaussian noise, in scaled actions.
        every: steps between two evaluations.
        episodes: of an evaluation.
    """

    env: str
    algorithm: Algorithm = "td3"
    refinement: RefinementSettings | None = None
    steps: int = 20_000
    hidden: Sequence[int] = (400, 300)
    lr: float = 1e-3
    batch_size: int = 256
    learning_starts: int = 100
    noise: float = 0.1
    every: int = 1000
    episodes: int = 5

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            raise InputError("algorithm", f"one of {', '.join(ALGORITHMS)}", repr(self.algorithm))
        for name in ("steps", "batch_size", "every", "episodes"):
            positive(name, getattr(self, name), integer=True)
        for width in self.hidden:
            positive("hidden", width, integer=True)
        positive("lr", self.lr)
        nonnegative("learning_starts", self.learning_starts, integer=True)
        nonnegative("noise", self.noise)

    def model(self, seed: int) -> RefinedExplorationMixin:
        """Build the agent, untrained."""
        env = make_environment(self.env)
        check_continuous("env", env.action_space)
        size = np.ones(env.action_space.shape or ())
        noise = NormalActionNoise(0 * size, self.noise * size) if self.noise else None
        return ALGORITHMS[self.algorithm](
            "MultiInputPolicy" if type(env.observation_space).__name__ == "Dict" else "MlpPolicy",
            Monitor(env),
            refinement=self.refinement or RefinementSettings(epsilon=0.0),
            learning_rate=self.lr,
            batch_size=self.batch_size,
            buffer_size=self.steps,
            learning_starts=self.learning_starts,
            action_noise=noise,
            policy_kwargs={"net_arch": list(self.hidden)},
            seed=seed,
            device="cpu",
        )


def train_agent(
    settings: TrainingSettings, seed: int, on_point: Callable[[CurvePoint], None] = lambda point: None
) -> tuple[RefinedExplorationMixin, list[CurvePoint]]:
    """Train one agent.

    Args:
        settings: environment, algorithm and its arguments.
        seed: of weights, environment, noise and which actions are refined.
        on_point: called after each evaluation.

    Returns:
        The agent, and its curve: the first point is before training. Evaluations use the actor alone, without noise and
        refinement, in episodes whose seeds are the same for every agent.
    """
    model = settings.model(seed)
    curve = CurveCallback(settings, on_point)
    model.set_logger(Logger(None, []))  # its own one would leave a folder behind
    model.learn(settings.steps, callback=curve, log_interval=None)  # pyright: ignore[reportArgumentType]
    return model, curve.points


class CurveCallback(BaseCallback):
    """Evaluates an agent while it learns."""

    EPISODES = 1_000_000
    """Seed of the first episode of an evaluation, far from those of training."""

    def __init__(self, settings: TrainingSettings, on_point: Callable[[CurvePoint], None]) -> None:
        super().__init__()
        self.settings, self.on_point = settings, on_point
        self.points, self.spent = list[CurvePoint](), 0.0

    def _on_training_start(self) -> None:
        self.seeds = [self.EPISODES + number for number in range(self.settings.episodes)]
        self.environments = [make_environment(self.settings.env) for _ in self.seeds]
        self.begun = time.process_time()
        self._evaluate()

    def _on_step(self) -> bool:
        if self.num_timesteps % self.settings.every == 0:
            self._evaluate()
        return True

    def _on_training_end(self) -> None:
        if self.points[-1].step < self.num_timesteps:
            self._evaluate()

    def _evaluate(self) -> None:
        now = time.process_time()
        returns = play_seeds(self.environments, self.seeds, self._act).returns
        gain = self.logger.name_to_value.pop("refine/gain", float("nan"))
        self.logger.name_to_count.pop("refine/gain", None)
        spent = now - self.begun - self.spent
        low, high = float(returns.min()), float(returns.max())
        self.points.append(CurvePoint(self.num_timesteps, float(returns.mean()), low, high, float(gain), spent))
        self.on_point(self.points[-1])
        self.spent += time.process_time() - now

    def _act(self, observations: Any, running: NDArray[Any]) -> NDArray[Any]:
        return self.model.predict(observations, deterministic=True)[0]  # pyright: ignore[reportArgumentType]
