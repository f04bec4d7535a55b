"""One attack on one policy: on fixed states, and on whole episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.policy_methods import Form, chosen_form
from benchmarks.policy_tuned import TUNED
from benchmarks.timing import timed
from latentopt.rl.attack_episodes import AttackedEpisodes
from latentopt.rl.attack_policy import Aim, AttackedObservations, attack_policy
from latentopt.rl.game_policies import GamePolicy, game_of
from latentopt.zoo import cards


@dataclass(frozen=True, eq=False)
class Cell:
    """A method in one size on S states."""

    size: str
    success: np.ndarray  # (S,) bool
    margin: float  # mean, of the best other logit above the clean action's
    forwards: float  # of a state, in the mean
    backwards: float
    seconds: float  # CPU time of all


@dataclass(frozen=True)
class Plan:
    """What is measured of every policy."""

    radii: Sequence[float]
    states: int
    evaluations: int
    seed: int
    methods: Sequence[str]
    targets: Aim | None = None

    def on_states(self, policy: GamePolicy, states: np.ndarray, eps: float, method: str) -> Cell:
        """The method in its tuned size."""
        return self.cell(policy, states, eps, *chosen_form(method, TUNED.get(policy.game, {})))

    def cell(self, policy: GamePolicy, states: np.ndarray, eps: float, size: str, form: Form) -> Cell:
        """A size of a method on states (S, 64, 64, 3)."""
        settings, found = form.settings(self.evaluations), list[AttackedObservations]()
        took = timed(
            lambda: found.append(
                attack_policy(policy.policy, states, eps, targets=self.targets, seed=self.seed, **settings)
            )
        )
        (one,) = found
        forwards, backwards = (cost.double().mean().item() for cost in (one.forwards, one.backwards))
        return Cell(size, one.success.numpy(), one.moved.mean().item(), forwards, backwards, took.cpu)

    def on_episodes(self, policy: GamePolicy, eps: float, method: str) -> AttackedEpisodes:
        """The method in its tuned size."""
        _, form = chosen_form(method, TUNED.get(policy.game, {}))
        return policy.episodes(eps, targets=self.targets, seed=self.seed, **form.settings(self.evaluations))


def game_policy(model: str, levels: range, horizon: int) -> GamePolicy:
    """A shipped policy, or the one in a folder, on these levels."""
    game, settings = game_of(model)
    return GamePolicy(game, cards.load_classifier(model), settings, levels, horizon)
