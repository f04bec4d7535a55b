"""Policies for games as models with a card: weights, how they were trained, and the returns that were measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from latentopt.errors import InputError
from latentopt.io import versions
from latentopt.networks.classifier import Classifier
from latentopt.rl.played import Played
from latentopt.rl.procgen import ACTIONS, GAMES, Game
from latentopt.rl.train_policy import TEST_LEVELS
from latentopt.zoo import cards
from latentopt.zoo.architectures import NatureCNN

IMAGE = (3, 64, 64)
SETTINGS = ("mode", "backgrounds", "repeat")
"""Of the game, beside its levels; as `Procgen` has them."""


def game_of(model: str | Path) -> tuple[Game, dict[str, Any]]:
    """The game that a policy plays, and how it is set.

    Raises:
        InputError: no such model, or no policy.
    """
    training = cards.read_card(model).training
    if training.get("game") not in GAMES:
        raise InputError("model", "a policy for a game of Procgen", repr(str(model)))
    return training["game"], {name: training[name] for name in SETTINGS}


def ship(
    folder: Path,
    name: str,
    summary: str,
    network: NatureCNN,
    channels: tuple[int, int],
    hidden: int,
    training: dict[str, Any],
    episodes: int = 200,
) -> cards.PolicyCard:
    """Measure a policy on levels that it was not trained on, and write its weights and card to ``folder``.

    Args:
        folder: of the model.
        name, summary: of the card.
        network: what `train_policy` returned.
        channels, hidden: its sizes.
        training: arguments of `train_policy`, and what else the card says of it.
        episodes: levels that returns are measured on, each played once.
    """
    game: Game = training["game"]
    actions = list(ACTIONS[game])
    policy = Classifier(network, input_shape=IMAGE, classes=actions)
    played = Played(game, policy, {key: training[key] for key in SETTINGS}, range(TEST_LEVELS, TEST_LEVELS + episodes))
    sizes = {"shape": list(IMAGE), "channels": list(channels), "hidden": hidden, "outputs": len(actions)}
    greedy, sampled, at_random = played.episodes(), played.episodes(sample=True), played.at_random()
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
