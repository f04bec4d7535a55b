"""One attack on one policy: on fixed states, and on whole episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.policy_methods import Form, chosen_form
from benchmarks.policy_tuned import TUNED
from benchmarks.timing import timed
from latentopt.rl.attack_policy import Aim, AttackedObservations, attack_policy
from latentopt.rl.attacked_episodes import Episodes
from latentopt.rl.played import Played
from latentopt.rl.shipped import game_of
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

    def on_states(self, played: Played, states: np.ndarray, eps: float, method: str) -> Cell:
        """The method in its tuned size."""
        return self.cell(played, states, eps, *chosen_form(method, TUNED.get(played.game, {})))

    def cell(self, played: Played, states: np.ndarray, eps: float, size: str, form: Form) -> Cell:
        """A size of a method on states (S, 64, 64, 3)."""
        settings, found = form.settings(self.evaluations), list[AttackedObservations]()
        took = timed(
            lambda: found.append(
                attack_policy(played.policy, states, eps, targets=self.targets, seed=self.seed, **settings)
            )
        )
        (one,) = found
        forwards, backwards = (cost.double().mean().item() for cost in (one.forwards, one.backwards))
        return Cell(size, one.success.numpy(), one.moved.mean().item(), forwards, backwards, took.cpu)

    def on_episodes(self, played: Played, eps: float, method: str) -> Episodes:
        """The method in its tuned size."""
        _, form = chosen_form(method, TUNED.get(played.game, {}))
        return played.episodes(eps, targets=self.targets, seed=self.seed, **form.settings(self.evaluations))


def played_by(model: str, levels: range, horizon: int) -> Played:
    """A shipped policy, or the one in a folder, on these levels."""
    game, settings = game_of(model)
    return Played(game, cards.load_classifier(model), settings, levels, horizon)
