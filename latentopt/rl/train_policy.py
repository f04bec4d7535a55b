"""Trains policies for Procgen by proximal policy optimisation (PPO, arXiv 1707.06347), the one of stable-baselines3."""

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

from latentopt.rl.procgen import Game, Mode, Procgen
from latentopt.zoo.architectures import NatureCNN

OnRound = Callable[[int, dict[str, float]], None]
"""Called with the steps so far and the figures of the latest round."""
TRAINING_LEVELS = (0, 100_000)
TEST_LEVELS = 2_000_000
"""First of the levels on which policies and attacks on them are measured."""
TUNING_LEVELS = 1_000_000
"""First of those on which settings are chosen."""


class NatureFeatures(BaseFeaturesExtractor):
    """All layers of a `NatureCNN` but the last, as features of stable-baselines3's policies."""

    def __init__(self, space: spaces.Box, channels: tuple[int, int], hidden: int) -> None:
        super().__init__(space, hidden)
        self.layers = NatureCNN(space.shape, channels, hidden).layers[:-1]  # pyright: ignore[reportArgumentType]

    def forward(self, observations: Tensor) -> Tensor:
        return self.layers(observations)


class RoundCallback(BaseCallback):
    """Reports the last 100 episodes after every round; ends the training after ``stop`` steps."""

    def __init__(self, on_round: OnRound, stop: int | None) -> None:
        super().__init__()
        self.on_round, self.stop = on_round, stop

    def _on_step(self) -> bool:
        return self.stop is None or self.num_timesteps < self.stop

    def _on_rollout_end(self) -> None:
        episodes = list(self.model.ep_info_buffer or ())
        if episodes:
            means = {key: sum(episode[key] for episode in episodes) / len(episodes) for key in ("r", "l")}
            self.on_round(self.num_timesteps, {"episode/return": means["r"], "episode/length": means["l"]})


def train_policy(
    game: Game,
    steps: int,
    mode: Mode = "easy",
    backgrounds: bool = False,
    repeat: int = 2,
    envs: int = 64,
    rollout: int = 128,
    epochs: int = 3,
    batch_size: int = 1024,
    lr: float = 5e-4,
    gamma: float = 0.99,
    entropy: float = 0.01,
    channels: tuple[int, int] = (16, 32),
    hidden: int = 256,
    seed: int = 0,
    stop: int | None = None,
    checkpoints: Path | None = None,
    on_round: OnRound = lambda steps, figures: None,
) -> NatureCNN:
    """Train a policy for a game on its levels 0 to 99,999.

    Args:
        game: coinrun or fruitbot.
        steps: actions in all environments together.
        mode: easy or hard levels.
        backgrounds: pictures behind the game.
        repeat: frames that an action is repeated for.
        envs: environments side by side.
        rollout: steps of each environment in a round.
        epochs: passes over a round.
        batch_size: of a gradient step.
        lr: of Adam, falling linearly to 0.
        gamma: discount.
        entropy: weight of the policy's entropy.
        channels, hidden: sizes of the `NatureCNN`.
        seed: of every random number.
        stop: steps after which training ends early; the learning rate falls as over all ``steps``. None: no early end.
        checkpoints: folder for the agent after every tenth round; None: none.
        on_round: called after every round.

    Returns:
        The policy: images (B, 3, 64, 64) in [0, 1] to the actions' logits (B, A).
    """
    games = Procgen(game, envs, TRAINING_LEVELS, mode=mode, backgrounds=backgrounds, repeat=repeat, seed=seed)
    env = VecNormalize(VecMonitor(games), norm_obs=False)
    agent = PPO(
        "CnnPolicy",
        env,
        learning_rate=lambda left: lr * left,
        n_steps=rollout,
        batch_size=batch_size,
        n_epochs=epochs,
        gamma=gamma,
        ent_coef=entropy,
        policy_kwargs={
            "features_extractor_class": NatureFeatures,
            "features_extractor_kwargs": {"channels": channels, "hidden": hidden},
            "net_arch": [],
            "optimizer_kwargs": {"eps": 1e-5},
        },
        seed=seed,
        device="cpu",
    )
    callbacks: list[BaseCallback] = [RoundCallback(on_round, stop)]
    if checkpoints is not None:
        callbacks.append(CheckpointCallback(10 * rollout, str(checkpoints)))
    agent.set_logger(Logger(None, []))  # its own one would leave a folder behind
    agent.learn(steps, callbacks)
    env.close()
    return export_policy(agent, channels, hidden)


def export_policy(agent: PPO, channels: tuple[int, int] = (16, 32), hidden: int = 256) -> NatureCNN:
    """Return the network of an agent that `train_policy` trained, without its value."""
    policy = cast(Any, agent.policy)
    shape, actions = policy.features_extractor._observation_space.shape, policy.action_net.out_features
    network = NatureCNN(shape, channels, hidden, actions)
    network.layers[:-1].load_state_dict(policy.features_extractor.layers.state_dict())
    cast(nn.Linear, network.layers[-1]).load_state_dict(policy.action_net.state_dict())
    return network.eval()
