"""Policies as networks of observations: agents of stable-baselines3, modules and functions."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from latentopt.errors import InputError
from latentopt.networks.classifier import check_range
from latentopt.rl.normalization import Normalization

Kind = Literal["discrete", "continuous"]
Observations = np.ndarray | Tensor
BYTES = 255


class PolicyNetwork(nn.Module):
    """A policy as a function of observations (B, *shape) to logits (B, K), or to means (B, *action).

    Observations that are bytes come as shares of 255 and are rounded to whole bytes before the policy sees them; the
    gradient passes through the rounding.

    Args:
        policy: an agent or a policy of stable-baselines3, or any callable that maps observations to logits or means.
        bytes_: whether observations are uint8. A callable gets them as shares of 255, an agent as bytes.
        kind: discrete: logits; continuous: means. None: that of an agent's action space; of a callable discrete.
        input_range: (low, high) of every value of an observation; None: [0, 1] of bytes, else the callable's
            ``input_range``, else the bounds of the agent's space where all are equal, else no bounds.
        normalization: inputs are its `scaled` observations, clipped before the policy sees them. Without an
            ``input_range`` they then have no bounds.

    Raises:
        InputError: an argument is not as described, or the policy has neither logits nor means.
    """

    def __init__(
        self,
        policy: Any,
        bytes_: bool = False,
        kind: Kind | None = None,
        input_range: tuple[float, float] | None = None,
        normalization: Normalization | None = None,
    ) -> None:
        super().__init__()
        if bytes_ and normalization is not None:
            raise InputError("normalization", "None of observations that are bytes", "statistics")
        if kind not in (None, *get_args(Kind)):
            raise InputError("kind", f"one of {', '.join(get_args(Kind))}", repr(kind))
        agent = _agent(policy)
        self.policy, self.bytes, self.agent = policy, bytes_, agent
        if agent is None:
            if not callable(policy):
                raise InputError("policy", "an agent, a module or a function", type(policy).__name__)
            self.decide: Callable[[Tensor], Any] = policy
            self.discrete, self.shape = kind != "continuous", getattr(policy, "input_shape", None)
            bounds = getattr(policy, "input_range", (-inf, inf))
        else:
            self.decide, self.discrete = _decision(agent)
            if kind not in (None, "discrete" if self.discrete else "continuous"):
                raise InputError("kind", f"that of the agent's actions, {agent.action_space}", repr(kind))
            self.shape, bounds = _space(agent, bytes_)
        self.clip = None if normalization is None else normalization.clip
        default = (0.0, 1.0) if bytes_ else bounds if normalization is None else (-inf, inf)
        self.input_range = check_range(default if input_range is None else input_range)

    def forward(self, x: Tensor) -> Tensor:
        if self.bytes:
            x = x * BYTES
            x = x.detach().round() + (x - x.detach())
            if self.agent is None:
                x = x / BYTES
        if self.shape is not None and x.shape[1:] != self.shape:
            x = x.movedim(-1, 1)  # colours last, as environments have them
        if self.clip is not None:
            x = x.clamp(-self.clip, self.clip)
        return self.decide(x)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Return whether the policy takes observations of this shape, colours first or last."""
        return self.shape is None or self.shape in (shape, (*shape[-1:], *shape[:-1]))

    def actions(self, output: Tensor, space: Any) -> np.ndarray:
        """Map logits or means (B, ...) to actions of an environment with this action space."""
        if self.discrete:
            return output.argmax(1).cpu().numpy()
        means = output.detach().cpu().numpy()
        if self.agent is not None and self.agent.squash_output:
            return self.agent.unscale_action(means)
        return np.clip(means, space.low, space.high) if hasattr(space, "low") else means


def _agent(policy: Any) -> Any:
    """The policy of stable-baselines3 that an object is or has; None: there is none."""
    for candidate in (policy, getattr(policy, "policy", None)):
        if hasattr(candidate, "observation_space") and hasattr(candidate, "_predict"):
            return candidate
    return None


def _decision(agent: Any) -> tuple[Callable[[Tensor], Tensor], bool]:
    """The function from observations to logits or means of an agent, and whether it gives logits."""
    kind = type(agent.action_space).__name__
    if hasattr(agent, "lstm_actor"):
        raise InputError("policy", "one without memory", type(agent).__name__)
    if kind == "Box":
        return lambda x: agent._predict(x, deterministic=True), False
    if kind == "Discrete" and hasattr(agent, "q_net"):
        return agent.q_net, True
    if kind == "Discrete" and hasattr(agent, "get_distribution"):
        return lambda x: agent.get_distribution(x).distribution.logits, True
    raise InputError("policy", "logits of discrete actions, or the mean of continuous ones", f"{kind} actions")


def _space(agent: Any, bytes_: bool) -> tuple[tuple[int, ...], tuple[float, float]]:
    """Shape and bounds of an agent's observations."""
    space = agent.observation_space
    if type(space).__name__ != "Box":
        raise InputError("policy", "one whose observations are images or vectors", str(space))
    if (space.dtype == np.uint8) != bytes_:
        raise InputError("observations", f"{space.dtype}, as the policy's space has them", "bytes" * bytes_ or "floats")
    low, high = space.low.min(), space.high.max()
    uniform = (space.low == low).all() and (space.high == high).all()
    return space.shape, (float(low), float(high)) if uniform else (-inf, inf)


def as_tensor(observations: Observations, normalization: Normalization | None = None) -> Tensor:
    """Return observations (B, *shape) as a tensor: bytes as shares of 255, floats scaled by the normalisation.

    Raises:
        InputError: they are not finite numbers (B, *shape).
    """
    if not isinstance(observations, (np.ndarray, Tensor)):
        raise InputError("observations", "an array or a tensor (B, *shape)", type(observations).__name__)
    x = torch.as_tensor(observations).detach()
    if x.ndim < 2 or not len(x):
        raise InputError("observations", "shape (B, *shape), B >= 1", tuple(x.shape))
    if x.dtype == torch.uint8:
        return x.to(torch.float32) / BYTES
    if not x.is_floating_point():
        raise InputError("observations", "uint8 or floating-point values", x.dtype)
    if not bool(x.isfinite().all()):
        raise InputError("observations", "finite values", "NaN or infinity")
    return x if normalization is None else normalization.scaled(x)
