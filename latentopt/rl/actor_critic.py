"""Actors and critics from any file, in the environment that they act in."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from latentopt.errors import InputError, warn
from latentopt.rl.agents import Agent, load_agent
from latentopt.rl.normalization import Normalization, NormalizationWarning
from latentopt.rl.normalization_checks import check_statistics, doubt
from latentopt.rl.normalization_files import normalization_of
from latentopt.rl.observations import check_continuous
from latentopt.rl.refine import Refiner
from latentopt.rl.rollout import SeededEnvironments, rollout
from latentopt.rl.saved_models import algorithm_of, load_model

if TYPE_CHECKING:
    import gymnasium

Array = NDArray[Any]
WITH_CRITIC = ("TD3", "SAC", "TQC", "CrossQ")
"""Algorithms with a critic of actions; an archive of DDPG is read as one of TD3."""


@dataclass(frozen=True, eq=False)
class ActorCritic:
    """An actor and its critics in an environment.

    Args:
        name: for messages.
        actor: observations (B, *obs), or a dictionary of such, as `observe` gives them, to actions (B, A) in [-1, 1],
            without noise.
        critic: a critic as `Refiner` takes it, of such observations and of actions in [-1, 1].
        low: the environment's least action (A,).
        high: its greatest.
        normalization: of the environment's observations; None: they stay as they are.
    """

    name: str
    actor: Callable[[Any], Array]
    critic: Any
    low: Array
    high: Array
    normalization: Normalization | None = None

    @classmethod
    def from_agent(cls, agent: Agent, environment: gymnasium.Env[Any, Any]) -> ActorCritic:
        """Take the agent of a safetensors file.

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
    def from_model(cls, model: Any, normalization: Normalization | None = None) -> ActorCritic:
        """Take a model of stable-baselines3 and the normalisation that it was trained with."""

        def actor(observations: Any) -> Array:
            return model.policy.scale_action(model.predict(observations, deterministic=True)[0])

        space = model.action_space
        return cls(type(model).__name__, actor, model.critic, space.low, space.high, normalization)

    def observe(self, observations: Any) -> Any:
        """Normalise the environment's observations (B, *obs), or a dictionary of such, for actor and critic."""
        return observations if self.normalization is None else self.normalization(observations)

    def unscale(self, actions: Array) -> Array:
        """Map actions (B, A) in [-1, 1] to the environment's units."""
        return self.low + (self.high - self.low) / 2 * (actions + 1)


class RefinedActor:
    """An action rule for `rollout`: the actor's actions, refined where there is a refiner.

    Args:
        agent: who acts.
        refiner: of the agent's critic, for actions in [-1, 1]; None: actions stay the actor's.

    Attributes:
        gain: gain in Q (n,) of the latest actions; 0 without a refiner.
        seconds: CPU time of refining so far.
    """

    def __init__(self, agent: ActorCritic, refiner: Refiner | None) -> None:
        self.agent, self.refiner = agent, refiner
        self.gain, self.seconds, self.steps = np.zeros(()), 0.0, 0

    def __call__(self, observations: Any, running: Array) -> Array:
        observations = self.agent.observe(observations)
        actions = self.agent.actor(observations)
        if self.refiner is not None:
            begun = time.process_time()
            result = self.refiner(observations, actions, seed=self.steps)
            self.seconds += time.process_time() - begun
            self.gain, actions = result.gain.numpy(), result.action.numpy()
        self.steps += 1
        return self.agent.unscale(actions)


class RefinedEpisodes(NamedTuple):
    """Figures of n episodes."""

    returns: Array  # (n,) sums of rewards
    steps: Array  # (n,) long
    gains: Array  # (n,) mean gain in Q a step, 0 without refinement
    seconds: float  # CPU time of refining, all episodes together


def play_refined(
    agent: ActorCritic,
    environments: Sequence[gymnasium.Env[Any, Any]],
    seeds: Sequence[int],
    refiner: Refiner | None,
    on_step: Callable[[int], object] = lambda running: None,
) -> RefinedEpisodes:
    """Play one episode of each environment, with every action refined, or none.

    Args:
        agent: who acts.
        environments: one for each seed.
        seeds: that they are reset with.
        refiner: of the agent's critic, for actions in [-1, 1]; None: actions stay the actor's.
        on_step: called after every step with the number of episodes that ran.
    """
    actor, envs = RefinedActor(agent, refiner), SeededEnvironments(environments, seeds)
    returns, steps, gains = np.zeros(len(seeds)), np.zeros(len(seeds), np.int64), np.zeros(len(seeds))
    for step in rollout(envs, envs.reset(), actor):
        returns[step.envs] += step.rewards
        gains[step.envs] += actor.gain
        steps[step.envs] += 1
        on_step(len(step.envs))
    return RefinedEpisodes(returns, steps, gains / steps, actor.seconds)


def load_actor_critic(
    path: str | Path,
    environment: gymnasium.Env[Any, Any],
    vecnormalize: str | Path | None = None,
    activation: str | None = None,
) -> ActorCritic:
    """Load the agent in a file: ``.safetensors`` as for `load_agent`, or a ``.zip`` that stable-baselines3 saved.

    A zip file of stable-baselines3 holds pickled objects, which may run any code: load only those that you trust.

    Args:
        path: of the file.
        environment: where the agent acts. Some of its observations are compared with those of training.
        vecnormalize: a file with the statistics that observations were normalised by, as `read_statistics` takes it;
            ``none``: they were not. None: the one that `find_statistics` finds, or none.
        activation: of a safetensors file, as for `load_agent`.

    Raises:
        InputError: no such file, no agent of TD3, DDPG, SAC, TQC or CrossQ, or one of another environment or version;
            or it shows that the agent was trained under ``VecNormalize`` and there are no statistics, or the other way
            round.
    """
    path = Path(path)
    if path.suffix != ".zip":
        model: Any = load_agent(path, environment, activation=activation, vecnormalize=vecnormalize)
        agent = ActorCritic.from_agent(model, environment)
    else:
        if activation is not None:
            raise InputError("activation", "None, as a .zip says it", activation)
        model, normalization = _load_zip(path, environment, vecnormalize)
        agent = ActorCritic.from_model(model, normalization)
    odd = None if vecnormalize is not None else doubt(model, environment, agent.normalization)
    if odd is not None:
        warn(f"{agent.name}: {odd}", NormalizationWarning)
    return agent


def _load_zip(path: Path, environment: Any, vecnormalize: str | Path | None) -> tuple[Any, Normalization | None]:
    algorithm = algorithm_of(path)
    if algorithm not in WITH_CRITIC:
        raise InputError(str(path), "an agent with a critic of actions: TD3, DDPG, SAC, TQC or CrossQ", algorithm)
    name = environment.spec.id if environment.spec else type(environment).__name__
    check_continuous(name, environment.action_space)
    model = load_model(path, algorithm, environment, match=True)
    normalization, certain = normalization_of(path, vecnormalize, name)
    if normalization is not None:
        normalization.check(environment.observation_space.shape or ())
    if not certain:
        check_statistics(model, path.name, normalization)
    return model, normalization
