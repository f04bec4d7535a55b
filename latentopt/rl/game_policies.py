"""Policies for games of Procgen: their episodes, and models with a card that tells what returns were measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentopt.errors import InputError
from latentopt.io import versions
from latentopt.networks.classifier import Classifier
from latentopt.rl.attack_episodes import AttackedEpisodes, attack_episodes
from latentopt.rl.games import TEST_LEVELS
from latentopt.rl.procgen import ACTIONS, GAMES, Game, Procgen
from latentopt.zoo import cards
from latentopt.zoo.architectures import NatureCNN

IMAGE = (3, 64, 64)
SETTINGS = ("mode", "backgrounds", "repeat")
"""Settings of the game beside its levels, named as in `Procgen`."""


@dataclass(eq=False)
class RecordingPolicy:
    """A policy of images with colours first that keeps the images it is given, colours last."""

    policy: Callable[[Tensor], Tensor]
    images: list[Tensor] = field(default_factory=list)

    def __call__(self, x: Tensor) -> Tensor:
        self.images.append((x * 255).round().to(torch.uint8))
        return self.policy(x.movedim(-1, 1))


@dataclass(frozen=True, eq=False)
class GamePolicy:
    """A policy of a game, on levels that are played once each."""

    game: Game
    policy: Any
    settings: dict[str, Any]  # further arguments of `Procgen`
    levels: range
    horizon: int | None = None  # steps after which an episode is cut

    def episodes(self, eps: float | None = None, **attack: Any) -> AttackedEpisodes:
        """Play one episode a level."""
        env = Procgen(self.game, fixed=self.levels, **self.settings)
        try:
            return attack_episodes(self.policy, env, len(self.levels), eps, horizon=self.horizon, **attack)
        finally:
            env.close()

    def random_episodes(self) -> AttackedEpisodes:
        """Play the same levels by actions drawn evenly."""
        logits = torch.zeros(len(ACTIONS[self.game]))
        uniform = replace(self, policy=lambda x: logits.expand(len(x), -1))
        return uniform.episodes(sample=True)

    def states(self, count: int, seed: int) -> np.ndarray:
        """Draw states (count, 64, 64, 3) uint8 evenly from the policy's episodes on all levels."""
        recording = RecordingPolicy(self.policy)
        replace(self, policy=recording).episodes()
        images = torch.cat(recording.images).numpy()
        return images[np.random.default_rng(seed).permutation(len(images))[:count]]


def game_of(model: str | Path) -> tuple[Game, dict[str, Any]]:
    """Return the game that a policy plays, and its settings.

    Raises:
        InputError: no such model, or no policy.
    """
    training = cards.read_card(model).training
    if training.get("game") not in GAMES:
        raise InputError("model", "a policy for a game of Procgen", repr(str(model)))
    return training["game"], {name: training[name] for name in SETTINGS}


def save_game_policy(
    folder: Path,
    name: str,
    summary: str,
    network: NatureCNN,
    channels: tuple[int, int],
    hidden: int,
    training: dict[str, Any],
    episodes: int = 200,
) -> cards.PolicyCard:
    """Measure a policy on levels that it was not trained on, and write its weights and card to a folder.

    Args:
        folder: of the model.
        name, summary: of the card.
        network: as `train_policy` returns it.
        channels, hidden: its sizes.
        training: arguments of `train_policy`, and whatever else the card is to tell.
        episodes: levels that returns are measured on, each played once.
    """
    game: Game = training["game"]
    actions = list(ACTIONS[game])
    policy = Classifier(network, input_shape=IMAGE, classes=actions)
    levels = range(TEST_LEVELS, TEST_LEVELS + episodes)
    measured = GamePolicy(game, policy, {key: training[key] for key in SETTINGS}, levels)
    sizes = {"shape": list(IMAGE), "channels": list(channels), "hidden": hidden, "outputs": len(actions)}
    greedy, sampled, at_random = measured.episodes(), measured.episodes(sample=True), measured.random_episodes()
    card = cards.PolicyCard(
        name=name,
        summary=summary,
        architecture={"policy": {"class_path": "latentopt.zoo.architectures.NatureCNN", "init_args": sizes}},
        training={**training, "versions": versions()},
        quality={
            **_returns("return", greedy.returns),
            **_returns("sampled_return", sampled.returns),
            **_returns("random_return", at_random.returns),
            "protocol": f"{episodes} levels from number {TEST_LEVELS} on, each played once: by the likeliest action, "
            "by actions drawn from the policy, and by actions drawn evenly",
        },
        input_shape=list(IMAGE),
        mean=0.0,
        std=1.0,
        classes=actions,
    )
    return cards.save_model(folder, card, {"policy": network})


def _returns(name: str, values: np.ndarray) -> dict[str, float]:
    error = values.std(ddof=1) / len(values) ** 0.5
    return {name: round(float(values.mean()), 3), f"{name}_standard_error": round(float(error), 3)}
