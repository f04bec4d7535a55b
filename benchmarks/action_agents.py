"""Pretrained agents from LATENTOPT_DATA, states of their episodes, and exact maxima of their critics there."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.timing import timed
from latentopt.analysis.certify import Certificate
from latentopt.analysis.certify import certify as certify_maximum
from latentopt.errors import InputError
from latentopt.objectives import Unit
from latentopt.problem import Problem
from latentopt.rl.agents import Agent, load_agent
from latentopt.rl.critics import FixedStateCritic
from latentopt.rl.rollout import collect_observations, make_environment
from latentopt.sets import Box
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
class AgentStates:
    """An agent and states of its episodes."""

    name: str
    agent: Agent
    observations: Tensor  # (B, S)
    actions: Tensor  # (B, A) its own there, without noise

    @property
    def twins(self) -> bool:
        return len(self.agent.critics.networks) > 1


def agent_states(name: str, count: int, seed: int) -> AgentStates:
    """Return ``count`` states of the agent's episodes, with seeds from ``seed`` on.

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
        return AgentStates(name, agent, observations, agent.actor(observations))


class ExactMaximum(NamedTuple):
    """Result of branch and bound on an agent's first states."""

    name: str
    box: float
    gains: list[float]  # over the actor's action, of the best action found
    bounds: list[float]  # no action gains more
    closed: int  # of how many the two are within the tolerance
    seconds: float


def certified(met: AgentStates, box: float, count: int, seconds: float, tolerance: float = 1e-3) -> ExactMaximum:
    """Bound the gains of the first ``count`` states, each until a CPU time limit or a gap below ``tolerance``."""
    gains, bounds, closed = list[float](), list[float](), 0
    critic = copy.deepcopy(met.agent.critics.networks[0]).double()

    def run() -> None:
        nonlocal closed
        for observation, action in zip(met.observations[:count].double(), met.actions[:count].double(), strict=True):
            q = FixedStateCritic(critic, observation)
            with torch.no_grad():
                before = float(q(action[None]))
            around = Box((action - box).clamp_min(-1)[None], (action + box).clamp_max(1)[None])
            problem = Problem(q, Unit(), action.shape, 1, around, like=action)
            certificate = _closed(problem, before, None, seconds, tolerance)
            if certificate.gap > tolerance:  # relative to what Q was before, it was too wide
                certificate = _closed(problem, certificate.value, certificate.x, seconds, tolerance)
            gains.append(max(certificate.value - before, 0.0))
            bounds.append(max(certificate.bound - before, 0.0))
            closed += certificate.gap <= tolerance

    seconds_spent = timed(run)
    return ExactMaximum(met.name, box, gains, bounds, closed, seconds_spent.cpu)


def _closed(problem: Problem, value: float, start: Tensor | None, seconds: float, tolerance: float) -> Certificate:
    """Compute the maximum to ``tolerance``, for a maximum of about ``value``."""
    relative = tolerance / max(abs(value), tolerance) / 3
    return certify_maximum(problem, start=start, seconds=seconds, tolerance=relative, method="branch-and-bound")
