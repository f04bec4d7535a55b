"""Critics: functions of observations and actions to one value or several, stacked critic by critic."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from latentopt.errors import InputError
from latentopt.networks.checks import empty_like_parameters
from latentopt.rl.observations import map_arrays

CriticFunction = Callable[[Tensor, Tensor], Tensor]
"""Observations (B, *obs) and actions (B, A) to the values (n, B) of n critics."""
Reduce = Literal["min", "first"] | Callable[[Tensor], Tensor]
"""The critic that counts: the least, the first, or a function (n, B) to (B,), each sample by itself."""


def stacked(values: Any, batch: int) -> Tensor:
    """Stack the values of one critic, or several, of ``batch`` actions to (n, B).

    Args:
        values: (B,) or (B, 1); or several of them, in a tuple; or the quantiles (B, n, m) of n critics, averaged.

    Raises:
        InputError: another shape.
    """
    if isinstance(values, Tensor) and values.ndim == 3 and len(values) == batch:
        return values.mean(2).T
    several: Sequence[Any] = values if isinstance(values, tuple | list) else (values,)
    if not several:
        raise InputError("q", "at least one critic", "an empty tuple")
    for value in several:
        if not isinstance(value, Tensor) or tuple(value.shape) not in ((batch,), (batch, 1)):
            got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise InputError("q", f"one value an action, shape ({batch},) or ({batch}, 1), or a tuple of such", got)
    return torch.stack([value.reshape(batch) for value in several])


def reduced(values: Tensor, critic: Reduce) -> Tensor:
    """Return the value (B,) that counts, of the critics' values (n, B); differentiable."""
    if critic == "first":
        return values[0]
    if critic == "min":
        return values.min(0).values
    assert callable(critic)
    value = critic(values)
    if not isinstance(value, Tensor) or value.shape != values.shape[1:]:
        got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise InputError("critic", f"a function of values {tuple(values.shape)} to {tuple(values.shape[1:])}", got)
    return value


def check_reduce(critic: object) -> None:
    """Raise `InputError` unless it is a `Reduce`."""
    if critic not in ("min", "first") and not callable(critic):
        raise InputError("critic", "min, first, or a function of the critics' values (n, B)", repr(critic))


def critic_of(q: Any) -> Any:
    """Return the critic of a stable-baselines3 model, or ``q`` itself if it is a function.

    Raises:
        InputError: it has none, or its actions are discrete.
    """
    base = sys.modules.get("stable_baselines3.common.base_class")
    if base is None or not isinstance(q, base.BaseAlgorithm):
        if not callable(q):
            raise InputError(
                "q", "a function of observations and actions, or a stable-baselines3 model", type(q).__name__
            )
        return q
    space, kind = q.action_space, type(q).__name__
    if type(space).__name__ != "Box":
        raise InputError("q", "a model with continuous actions (Box)", f"{kind} with {type(space).__name__} actions")
    critic = getattr(q, "critic", None)
    if critic is None:
        raise InputError("q", "a model with a critic of actions (SAC, TD3, DDPG, TQC)", kind)
    return critic


def takes_scaled(q: object) -> bool:
    """Return whether a critic takes actions scaled to [-1, 1] in any action space."""
    return is_sb3(q) or getattr(q, "takes_scaled", False) is True


def is_sb3(q: object) -> bool:
    """Return whether a critic is stable-baselines3's."""
    policies = sys.modules.get("stable_baselines3.common.policies")
    return policies is not None and isinstance(q, policies.BaseModel) and hasattr(q, "q_networks")


def like(q: object) -> Tensor:
    """Return an empty tensor in the dtype of a critic; float32 of a plain function."""
    return empty_like_parameters(q)


class ScaledCritic:
    """A network of scaled actions (copies * B, A), copy by copy, to the values (rows, n) of n critics.

    Args:
        critics: of observations (B, *obs) and actions.
        observations: (B, *obs), or a dictionary of such tensors.
        middle: (A,) the action that is 0 in scaled actions.
        half: (A,) half the range of actions.
    """

    def __init__(self, critics: CriticFunction, observations: Any, middle: Tensor, half: Tensor) -> None:
        self.critics, self.observations, self.middle, self.half = critics, observations, middle, half

    def __call__(self, u: Tensor) -> Tensor:
        def repeat(x: Tensor) -> Tensor:
            return x.repeat(len(u) // len(x), *[1] * (x.ndim - 1))

        return self.critics(map_arrays(repeat, self.observations), self.middle + self.half * u).T

    def take(self, rows: Tensor) -> ScaledCritic:
        return ScaledCritic(self.critics, map_arrays(lambda x: x[rows], self.observations), self.middle, self.half)


@dataclass(frozen=True)
class CriticObjective:
    """Minus the value that counts, of the critics' values (rows, n)."""

    critic: Reduce

    def __call__(self, values: Tensor) -> Tensor:
        return -reduced(values.T, self.critic)


class FixedStateCritic(nn.Module):
    """A critic at one observation, as a network of actions (B, A) to values (B, 1).

    Args:
        critic: of observations and actions side by side (B, S + A).
        observation: (S,)
    """

    observation: Tensor

    def __init__(self, critic: nn.Module, observation: Tensor) -> None:
        super().__init__()
        self.critic = critic
        self.register_buffer("observation", observation, persistent=False)

    def forward(self, actions: Tensor) -> Tensor:
        return self.critic(torch.cat([self.observation.expand(len(actions), -1), actions], 1))
