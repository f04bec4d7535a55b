"""What a critic is: any function of observations and actions, or several; what it says is stacked, critic by critic."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from latentopt.errors import InputError
from latentopt.networks.checks import empty_like_parameters

Values = Callable[[Tensor, Tensor], Tensor]
"""Observations (B, *obs) and actions (B, A) to what each of n critics says, (n, B)."""
Reduce = Literal["min", "first"] | Callable[[Tensor], Tensor]
"""Which of the critics counts: the least, the first, or a function (n, B) to (B,), each sample by itself."""


def stacked(values: Any, batch: int) -> Tensor:
    """What one critic, or several, said of ``batch`` actions, as (n, B).

    Args:
        values: (B,) or (B, 1); or several of them, in a tuple; or the quantiles (B, n, m) of n critics, averaged.

    Raises:
        InputError: another shape.
    """
    if isinstance(values, Tensor) and values.ndim == 3 and len(values) == batch:
        return values.mean(2).T
    several: Sequence[Any] = values if isinstance(values, tuple | list) else (values,)
    for each in several:
        if not isinstance(each, Tensor) or tuple(each.shape) not in ((batch,), (batch, 1)):
            came = f"shape {tuple(each.shape)}" if isinstance(each, Tensor) else type(each).__name__
            raise InputError("q", f"one value an action, shape ({batch},) or ({batch}, 1), or a tuple of such", came)
    return torch.stack([each.reshape(batch) for each in several]) if several else _none()


def _none() -> Tensor:
    raise InputError("q", "at least one critic", "an empty tuple")


def reduced(values: Tensor, critic: Reduce) -> Tensor:
    """The value (B,) that counts, of what the critics say (n, B); differentiable."""
    if critic == "first":
        return values[0]
    if critic == "min":
        return values.min(0).values
    assert callable(critic)
    value = critic(values)
    if not isinstance(value, Tensor) or value.shape != values.shape[1:]:
        came = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise InputError("critic", f"a function of values {tuple(values.shape)} to {tuple(values.shape[1:])}", came)
    return value


def check_reduce(critic: object) -> None:
    """Raise `InputError` unless it is a `Reduce`."""
    if critic not in ("min", "first") and not callable(critic):
        raise InputError("critic", "min, first, or a function of the critics' values (n, B)", repr(critic))


def critic_of(q: Any) -> Any:
    """The critic itself, of a stable-baselines3 model.

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


def is_sb3(q: object) -> bool:
    """Whether a critic is stable-baselines3's, which takes actions scaled to [-1, 1] whatever the action space."""
    policies = sys.modules.get("stable_baselines3.common.policies")
    return policies is not None and isinstance(q, policies.BaseModel) and hasattr(q, "q_networks")


def like(q: object) -> Tensor:
    """An empty tensor in the dtype of a critic; float32 of a plain function."""
    return empty_like_parameters(q) if isinstance(q, nn.Module) else torch.empty(0)
