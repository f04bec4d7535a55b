"""One loop for every rollout: environments side by side, stepped until each has ended its episodes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentopt.components.trust import require_trusted_environment
from latentopt.errors import InputError, first_line
from latentopt.rl.agents import INSTALL, Agent
from latentopt.rl.observations import check_space, map_arrays, stack

if TYPE_CHECKING:
    import gymnasium

Array = NDArray[Any]
ActionRule = Callable[[Any, Array], Array]
"""Observations (n, *obs), or a dictionary, and numbers (n,) of the environments that run, to actions (n, ...)."""


class VectorEnvironment(Protocol):
    """Environments that are reset and stepped together, as a VecEnv of stable-baselines3."""

    num_envs: int

    def reset(self) -> Any:
        """First observations (N, *obs), or a dictionary of such."""
        ...

    def step(self, actions: Array) -> tuple[Any, Array, Array, list[dict[str, Any]]]:
        """Observations, rewards (N,), whether episodes ended (N,), and infos."""
        ...


class SeededEnvironments:
    """Gymnasium environments side by side, each for one episode from a seed of its own.

    An environment whose episode has ended is not stepped again, so the episodes are those that each would have alone.
    """

    def __init__(self, environments: Sequence[gymnasium.Env[Any, Any]], seeds: Sequence[int]) -> None:
        self.environments, self.seeds, self.num_envs = environments, seeds, len(environments)

    def reset(self) -> Any:
        pairs = zip(self.environments, self.seeds, strict=True)
        self.observations = [env.reset(seed=seed)[0] for env, seed in pairs]
        self.ended = np.zeros(self.num_envs, bool)
        return stack(self.observations)

    def step(self, actions: Array) -> tuple[Any, Array, Array, list[dict[str, Any]]]:
        rewards, infos = np.zeros(self.num_envs), [dict[str, Any]() for _ in self.seeds]
        for number in (~self.ended).nonzero()[0].tolist():
            step = self.environments[number].step(actions[number])
            self.observations[number], reward, terminated, truncated, infos[number] = step
            rewards[number] = np.asarray(reward).item()  # a number, or an array of one
            self.ended[number] = terminated or truncated
        return stack(self.observations), rewards, self.ended.copy(), infos


class Transition(NamedTuple):
    """One step of the n environments whose episodes run."""

    envs: Array  # (n,) their numbers
    rewards: Array  # (n,)
    ended: Array  # (n,) bool, the episode ended with this step
    infos: list[dict[str, Any]]  # n


def rollout(
    envs: VectorEnvironment,
    observations: Any,
    act: ActionRule,
    episodes: Sequence[int] | None = None,
    horizon: int | None = None,
) -> Iterator[Transition]:
    """Step environments until each has ended its episodes, and yield every transition.

    Args:
        envs: `SeededEnvironments`, or a VecEnv of stable-baselines3.
        observations: what ``envs.reset()`` returned.
        act: called at every step with those environments alone whose episodes run.
        episodes: how many of each environment (N,); None: one each.
        horizon: steps after which an episode counts as ended; None: any number.
    """
    left = np.ones(envs.num_envs, np.int64) if episodes is None else np.array(episodes)
    steps = np.zeros_like(left)
    while len(running := left.nonzero()[0]):
        chosen = act(map_arrays(lambda x, rows=running: x[rows], observations), running)
        actions = np.zeros((envs.num_envs, *chosen.shape[1:]), chosen.dtype)
        actions[running] = chosen
        observations, rewards, dones, infos = envs.step(actions)
        steps[running] += 1
        ended = dones[running].astype(bool) | (steps[running] == horizon)
        yield Transition(running, rewards[running], ended, [infos[number] for number in running])
        steps[running[ended]] = 0
        left[running[ended]] -= 1


class EpisodeTotals(NamedTuple):
    """Returns and lengths of one episode of each of N environments."""

    returns: Array  # (N,) float64, sums of rewards without discount
    steps: Array  # (N,) long


def play_seeds(environments: Sequence[gymnasium.Env[Any, Any]], seeds: Sequence[int], act: ActionRule) -> EpisodeTotals:
    """Play one episode of each environment from its seed."""
    envs = SeededEnvironments(environments, seeds)
    totals = EpisodeTotals(np.zeros(len(seeds)), np.zeros(len(seeds), np.int64))
    for step in rollout(envs, envs.reset(), act):
        totals.returns[step.envs] += step.rewards
        totals.steps[step.envs] += 1
    return totals


def play_agent(
    agent: Agent, environment: gymnasium.Env[Any, Any], seed: int, sample: bool = False
) -> tuple[float, Tensor]:
    """Play one episode of an agent; ``sample`` draws the actions of a stochastic actor, as in training.

    Returns:
        The sum of rewards, and the observations (steps, S) as the actor was given them.
    """
    agent.check(environment)
    generator = torch.Generator().manual_seed(seed)
    space: Any = environment.action_space
    half, inputs = (space.high - space.low) / 2, list[Tensor]()

    def act(observations: Array, running: Array) -> Array:
        inputs.append(agent.observe(observations))
        with torch.inference_mode():
            actions = agent.actor.sample(inputs[-1], generator) if sample else agent.actor(inputs[-1])
        return space.low + half * (actions.numpy() + 1)

    return float(play_seeds([environment], [seed], act).returns[0]), torch.cat(inputs)


def collect_observations(
    agent: Agent, environment: gymnasium.Env[Any, Any], count: int, seed: int, episodes: int = 4
) -> Tensor:
    """Draw observations (count, S) that an agent meets in training, from episodes of seeds from ``seed`` on."""
    inputs = torch.cat([play_agent(agent, environment, seed + number, sample=True)[1] for number in range(episodes)])
    return inputs[torch.randperm(len(inputs), generator=torch.Generator("cpu").manual_seed(seed), device="cpu")[:count]]


def make_environment(name: str) -> gymnasium.Env[Any, Any]:
    """Make a gymnasium environment; of ``module:name`` the module is imported first, so it must be trusted.

    Raises:
        InputError: there is none of this name, it cannot be made here, its observations are no arrays, or its module
            is not trusted (`latentopt.trust`).
    """
    require_trusted_environment(name)
    try:
        import gymnasium
        from gymnasium.error import DependencyNotInstalled, Error
    except ImportError as error:
        raise InputError("env", f"gymnasium ({INSTALL})", "none installed") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # agents of earlier versions keep theirs
            environment = gymnasium.make(name)
    except (DependencyNotInstalled, ImportError) as error:
        raise InputError(name, f"an environment that is installed ({INSTALL})", first_line(error)) from error
    except Error as error:
        raise InputError("env", "the name of a gymnasium environment", f"{name!r} ({error})") from error
    except Exception as error:  # whatever the code of an environment does
        raise InputError(name, "an environment that can be made without arguments", first_line(error)) from error
    check_space("env", environment.observation_space)
    return environment
