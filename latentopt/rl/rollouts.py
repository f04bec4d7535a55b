"""Episodes of an actor, and the observations that it meets in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from latentopt.rl.agents import Agent

if TYPE_CHECKING:
    import gymnasium


class Episode(NamedTuple):
    """What an agent met in one episode."""

    total: float  # sum of the rewards, without discount
    observations: Tensor  # (steps, S) as the actor was given them


def episode(agent: Agent, environment: gymnasium.Env[Any, Any], seed: int, sample: bool = False) -> Episode:
    """One episode of the agent, its actions scaled to the environment's range; with ``sample`` those of a stochastic
    actor are drawn, as in training."""
    agent.check(environment)
    generator = torch.Generator().manual_seed(seed)
    space: Any = environment.action_space
    half = (space.high - space.low) / 2
    observation, _ = environment.reset(seed=seed)
    total, met, over = 0.0, list[Tensor](), False
    while not over:
        met.append(agent.observe(observation))
        with torch.inference_mode():
            row = met[-1][None]
            action = (agent.actor.sample(row, generator) if sample else agent.actor(row))[0].numpy()
        observation, reward, ended, cut, _ = environment.step(space.low + half * (action + 1))
        total, over = total + float(reward), ended or cut
    return Episode(total, torch.stack(met))


def on_policy(agent: Agent, environment: gymnasium.Env[Any, Any], count: int, seed: int, episodes: int = 4) -> Tensor:
    """Observations (count, S) that the agent meets in training, from so many episodes of seeds from ``seed`` on."""
    met = torch.cat([episode(agent, environment, seed + at, sample=True).observations for at in range(episodes)])
    drawn = torch.randperm(len(met), generator=torch.Generator().manual_seed(seed))[:count]
    return met[drawn]
