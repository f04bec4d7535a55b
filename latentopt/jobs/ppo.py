"""Training of policies for Procgen by the PPO of stable-baselines3 (arXiv 1707.06347)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize
from torch import Tensor, nn

from latentopt.jobs.train_policy import TrainPolicySettings
from latentopt.rl.games import TRAINING_LEVELS
from latentopt.rl.procgen import Procgen
from latentopt.zoo.architectures import NatureCNN

Report = Callable[[int, dict[str, float]], None]
"""Function of the number of steps so far and the figures of the latest round."""


class NatureFeatures(BaseFeaturesExtractor):
    """All layers of a `NatureCNN` but the last, as the features extractor of a policy of stable-baselines3."""

    def __init__(self, space: spaces.Box, channels: tuple[int, int], hidden: int) -> None:
        super().__init__(space, hidden)
        self.layers = NatureCNN(space.shape, channels, hidden).layers[:-1]  # pyright: ignore[reportArgumentType]

    def forward(self, observations: Tensor) -> Tensor:
        return self.layers(observations)


class _RoundReport(BaseCallback):
    """Reports the last 100 episodes after each round, and ends the training after ``stop`` steps."""

    def __init__(self, report: Report, stop: int | None) -> None:
        super().__init__()
        self.report, self.stop = report, stop

    def _on_step(self) -> bool:
        return self.stop is None or self.num_timesteps < self.stop

    def _on_rollout_end(self) -> None:
        episodes = list(self.model.ep_info_buffer or ())
        if episodes:
            means = {key: sum(episode[key] for episode in episodes) / len(episodes) for key in ("r", "l")}
            self.report(self.num_timesteps, {"episode/return": means["r"], "episode/length": means["l"]})


def train_ppo(
    settings: TrainPolicySettings, checkpoints: Path | None = None, report: Report = lambda steps, figures: None
) -> NatureCNN:
    """Train a policy for a game on its levels 0 to 99,999.

    Args:
        settings: of the job.
        checkpoints: folder that gets the agent after every tenth round; default none.
        report: called after every round.

    Returns:
        The policy: images (B, 3, 64, 64) in [0, 1] to the logits of the actions (B, A).
    """
    s = settings
    games = Procgen(
        s.game, s.envs, TRAINING_LEVELS, mode=s.mode, backgrounds=s.backgrounds, repeat=s.repeat, seed=s.seed
    )
    env = VecNormalize(VecMonitor(games), norm_obs=False)
    agent = PPO(
        "CnnPolicy",
        env,
        learning_rate=lambda left: s.lr * left,
        n_steps=s.rollout,
        batch_size=s.batch_size,
        n_epochs=s.epochs,
        gamma=s.gamma,
        ent_coef=s.entropy,
        policy_kwargs={
            "features_extractor_class": NatureFeatures,
            "features_extractor_kwargs": {"channels": s.channels, "hidden": s.hidden},
            "net_arch": [],
            "optimizer_kwargs": {"eps": 1e-5},
        },
        seed=s.seed,
        device="cpu",
    )
    callbacks: list[BaseCallback] = [_RoundReport(report, s.stop)]
    if checkpoints is not None:
        callbacks.append(CheckpointCallback(10 * s.rollout, str(checkpoints)))
    agent.set_logger(Logger(None, []))  # its own one would leave a folder behind
    agent.learn(s.steps, callbacks)
    env.close()
    return policy_network(agent, s.channels, s.hidden)


def policy_network(agent: PPO, channels: tuple[int, int] = (16, 32), hidden: int = 256) -> NatureCNN:
    """Return the policy of an agent that `train_ppo` trained, without its value function."""
    policy = cast(Any, agent.policy)
    shape, actions = policy.features_extractor._observation_space.shape, policy.action_net.out_features
    network = NatureCNN(shape, channels, hidden, actions)
    network.layers[:-1].load_state_dict(policy.features_extractor.layers.state_dict())
    cast(nn.Linear, network.layers[-1]).load_state_dict(policy.action_net.state_dict())
    return network.eval()
