"""Agents that play episodes, by their actor's actions or by refined ones, whatever file they come from."""

from __future__ import annotations

import json
import time
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from latentopt.errors import InputError
from latentopt.rl.agents import Agent, load_agent
from latentopt.rl.episodes import episodes
from latentopt.rl.extra import missing
from latentopt.rl.normalization import Normalization, NormalizationWarning
from latentopt.rl.normalization_checks import check_statistics, doubt
from latentopt.rl.refine import Refiner
from latentopt.rl.statistics import normalization_of

if TYPE_CHECKING:
    import gymnasium

Array = NDArray[Any]
KINDS = {
    "stable_baselines3.td3.policies": ("stable_baselines3", "TD3"),
    "stable_baselines3.sac.policies": ("stable_baselines3", "SAC"),
    "sb3_contrib.tqc.policies": ("sb3_contrib", "TQC"),
}
"""By the module of the policy that a file names, what loads it; DDPG's is TD3's."""


@dataclass(frozen=True, eq=False)
class Player:
    """An actor and its critics in an environment.

    Args:
        name: for messages.
        actor: observations (B, *obs), as ``observe`` gives them, to actions (B, A) in [-1, 1], without noise.
        critic: what `Refiner` takes, of such observations and of actions in [-1, 1].
        low: the environment's least action (A,).
        high: its greatest.
        normalization: of the environment's observations; None: they stay as they are.
    """

    name: str
    actor: Callable[[Array], Array]
    critic: Any
    low: Array
    high: Array
    normalization: Normalization | None = None

    @classmethod
    def of_agent(cls, agent: Agent, environment: gymnasium.Env[Any, Any]) -> Player:
        """Of an agent in a safetensors file.

        Raises:
            InputError: it is an agent of another environment.
        """
        agent.check(environment)
        space: Any = environment.action_space

        def actor(observations: Array) -> Array:
            with torch.inference_mode():
                dtype = agent.actor.mean.weight.dtype
                return agent.actor(torch.from_numpy(np.asarray(observations)).to(dtype)).numpy()

        return cls(agent.name, actor, agent.critics, space.low, space.high, agent.normalization)

    @classmethod
    def of_model(cls, model: Any, normalization: Normalization | None = None) -> Player:
        """Of a model of stable-baselines3, which was trained on observations normalised so, or as they are."""

        def actor(observations: Array) -> Array:
            return model.policy.scale_action(model.predict(observations, deterministic=True)[0])

        space = model.action_space
        return cls(type(model).__name__, actor, model.critic, space.low, space.high, normalization)

    def observe(self, observations: Array) -> Array:
        """What actor and critic are given of the environment's observations (B, *obs)."""
        return observations if self.normalization is None else self.normalization(observations)

    def actions(self, scaled: Array) -> Array:
        """Actions (B, A) in the environment's units."""
        return self.low + (self.high - self.low) / 2 * (scaled + 1)


class Played(NamedTuple):
    """What n episodes came to."""

    returns: Array  # (n,) sums of rewards
    steps: Array  # (n,) long
    gains: Array  # (n,) mean gain in Q a step, 0 without refinement
    seconds: float  # CPU time of refining, all episodes together


def play(
    player: Player,
    environments: Sequence[gymnasium.Env[Any, Any]],
    seeds: Sequence[int],
    refiner: Refiner | None,
    tell: Callable[[int], object] = lambda running: None,
) -> Played:
    """One episode of each environment, with every action refined, or none.

    Args:
        player: who acts.
        environments: one for each seed.
        seeds: that they are reset with.
        refiner: of the player's critic, for actions in [-1, 1].
        tell: called at every step with the number of episodes that still run.
    """
    gains, spent, step = np.zeros(len(seeds)), 0.0, 0

    def act(observations: Array, running: Array) -> Array:
        nonlocal spent, step
        tell(len(running))
        observations = player.observe(observations)
        scaled = player.actor(observations)
        if refiner is not None:
            begun = time.process_time()
            found = refiner(observations, scaled, seed=step)
            spent += time.process_time() - begun
            gains[running] += found.gain.numpy()
            scaled, step = found.action.numpy(), step + 1
        return player.actions(scaled)

    played = episodes(environments, seeds, act)
    return Played(played.returns, played.steps, gains / played.steps, spent)


def load_player(
    path: str | Path,
    environment: gymnasium.Env[Any, Any],
    vecnormalize: str | Path | None = None,
    activation: str | None = None,
) -> Player:
    """The agent in a file: ``.safetensors`` as for `load_agent`, or a ``.zip`` that stable-baselines3 saved.

    A zip file of stable-baselines3 holds pickled objects, which may run any code: load those alone that you trust.

    Args:
        path: of the file.
        environment: where it acts. Some of its observations are looked at.
        vecnormalize: a file with the statistics that observations were normalised by, as `read_statistics` takes it;
            ``none``: they were not. None: the one that `find_statistics` finds, or none.
        activation: of a safetensors file, as for `load_agent`.

    Raises:
        InputError: no such file, no agent of TD3, DDPG, SAC or TQC, or one of another environment or version; or it can
            be seen that it was trained under ``VecNormalize`` and there are no statistics, or the other way round.
    """
    path = Path(path)
    if path.suffix != ".zip":
        agent = load_agent(path, environment, activation=activation, vecnormalize=vecnormalize)
        return _looked_at(Player.of_agent(agent, environment), agent, environment, vecnormalize)
    if activation is not None:
        raise InputError("activation", "None, as a .zip says it", activation)
    kind, name = _kind(path), environment.spec.id if environment.spec else type(environment).__name__
    try:
        with torch.random.fork_rng(devices=[]):
            model = kind.load(path, env=environment, device="cpu", force_reset=False)
    except Exception as error:  # whatever an archive of another version does
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(str(path), f"an agent of {name}, saved by this version", first) from error
    normalization, certain = normalization_of(path, vecnormalize, name)
    if normalization is not None:
        normalization.check(environment.observation_space.shape or ())
    if not certain:
        check_statistics(model, path.name, normalization)
    return _looked_at(Player.of_model(model, normalization), model, environment, vecnormalize)


def _looked_at(player: Player, model: Any, environment: Any, vecnormalize: object) -> Player:
    """The player, with a warning where observations are unlike those of training and nothing was said of them."""
    odd = None if vecnormalize is not None else doubt(model, environment, player.normalization)
    if odd is not None:
        warnings.warn(f"{player.name}: {odd}", NormalizationWarning, stacklevel=3)
    return player


def _kind(path: Path) -> Any:
    """The class that loads an archive of stable-baselines3."""
    try:
        with zipfile.ZipFile(path) as archive:
            policy = json.loads(archive.read("data"))["policy_class"].get("__module__", "")
    except (OSError, KeyError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(str(path), "an agent that stable-baselines3 saved", f"{error}") from error
    if policy not in KINDS:
        raise InputError(str(path), "an agent with a critic of actions: TD3, DDPG, SAC or TQC", policy or "another")
    module, name = KINDS[policy]
    try:
        return getattr(__import__(module), name)
    except ModuleNotFoundError as error:
        raise missing(error) from error
