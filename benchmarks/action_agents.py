"""The pretrained agents of `latentopt bench actions`, from LATENTOPT_DATA, and the states they are in."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from latentopt.errors import InputError
from latentopt.rl.agents import Agent, load_agent
from latentopt.rl.rollout import collect_observations, make_environment
from latentopt.zoo.paths import data_root

AGENTS: dict[str, tuple[str, str]] = {
    "halfcheetah": ("rl_sb3/sac_HalfCheetah-v3.safetensors", "HalfCheetah-v4"),
    "hopper": ("rl_sb3/sac_Hopper-v3.safetensors", "Hopper-v4"),
    "walker2d": ("rl_sb3/sac_Walker2d-v3.safetensors", "Walker2d-v4"),
    "swimmer": ("rl_sb3/sac_Swimmer-v3.safetensors", "Swimmer-v4"),
    "bipedal-td3": ("rl_td3/BipedalWalker-v2_ONE_actor_critics.safetensors", "BipedalWalker-v3"),
    "lunar-td3": ("rl_td3/LunarLanderContinuous-v2_actor_critics.safetensors", "LunarLanderContinuous-v3"),
    "lunar-ddpg": ("rl_sb3/ddpg_LunarLanderContinuous-v2.safetensors", "LunarLanderContinuous-v3"),
}
"""File and environment by name."""


@dataclass(frozen=True, eq=False)
class States:
    """An agent, and states that it meets."""

    name: str
    agent: Agent
    observations: Tensor  # (B, S)
    actions: Tensor  # (B, A) its own there, without noise

    @property
    def twins(self) -> bool:
        return len(self.agent.critics.networks) > 1


def states(name: str, count: int, seed: int) -> States:
    """``count`` states of the agent's episodes of seeds from ``seed`` on.

    Raises:
        InputError: LATENTOPT_DATA has no such agent, or its environment is not installed.
    """
    file, env = AGENTS[name]
    if not (data_root() / file).is_file():
        raise InputError("LATENTOPT_DATA", f"a folder with {file}", str(data_root()))
    acts_in = make_environment(env)
    agent = load_agent(data_root() / file, acts_in)
    observations = collect_observations(agent, acts_in, count, seed)
    with torch.no_grad():
        return States(name, agent, observations, agent.actor(observations))
