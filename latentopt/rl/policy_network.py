"""Policies as networks of observations: agents of stable-baselines3, modules and functions."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, prod
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from latentopt.errors import InputError
from latentopt.networks.classifier import check_range
from latentopt.networks.freezing import require_eval
from latentopt.networks.outputs import evaluate
from latentopt.rl.agents import Agent
from latentopt.rl.normalization import Normalization

Kind = Literal["discrete", "continuous"]
Observations = np.ndarray | Tensor | dict[str, Any]
Shapes = dict[str, tuple[int, ...]]
BYTES = 255
MOST_ACTIONS = 100_000
"""Greatest number of combinations of several discrete actions."""


class PolicyNetwork(nn.Module):
    """A policy as a function of observations (B, *shape) to logits (B, K), or to means (B, *action).

    Observations that are dictionaries come side by side, (B, N). Several discrete actions are one: each of the K
    combinations has the sum of their logits, in the order of `numpy.unravel_index`.

    Observations that are bytes come as shares of 255 and are rounded to whole bytes before the policy sees them; the
    gradient passes through the rounding.

    Args:
        policy: an agent or a policy of stable-baselines3, an `Agent`, or any callable that maps observations to logits
            or means: as a tensor, a distribution of torch, or the first tensor of several outputs.
        bytes_: whether observations are uint8. A callable gets them as shares of 255, an agent as bytes.
        kind: discrete: logits; continuous: means. None: that of an agent's action space; of a callable discrete.
        input_range: (low, high) of every value of an observation; None: [0, 1] of bytes, else the callable's
            ``input_range``, else the bounds of the agent's space where all are equal, else no bounds.
        parts: shape of each array of observations that are dictionaries; None: they are arrays.
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
        parts: Shapes | None = None,
        normalization: Normalization | None = None,
    ) -> None:
        super().__init__()
        if bytes_ and normalization is not None:
            raise InputError("normalization", "None of observations that are bytes", "statistics")
        if kind not in (None, *get_args(Kind)):
            raise InputError("kind", f"one of {', '.join(get_args(Kind))}", repr(kind))
        agent = _agent(policy)
        self.policy, self.bytes, self.agent, self.parts = policy, bytes_, agent, parts
        self.branches: tuple[int, ...] | None = None  # numbers of several discrete actions
        if agent is None:
            if not callable(policy):
                raise InputError("policy", "an agent, a module or a function", type(policy).__name__)
            require_eval(policy)
            self.decide: Callable[[Tensor], Any] = policy
            self.discrete, self.shape = kind != "continuous", getattr(policy, "input_shape", None)
            bounds = getattr(policy, "input_range", (-inf, inf))
        else:
            self.decide, self.discrete = _decision(agent)
            if kind not in (None, "discrete" if self.discrete else "continuous"):
                raise InputError("kind", f"that of the agent's actions, {agent.action_space}", repr(kind))
            self.branches = _branches(agent.action_space)
            self.shape, bounds = _space(agent.observation_space, bytes_)
        self.clip = None if normalization is None else normalization.clip
        default = (0.0, 1.0) if bytes_ else bounds if normalization is None else (-inf, inf)
        self.input_range = check_range(default if input_range is None else input_range)

    def forward(self, x: Tensor) -> Tensor:
        if self.bytes:
            x = x * BYTES
            x = x.detach().round() + (x - x.detach())
            if self.agent is None:
                x = x / BYTES
        if self.parts is None:
            inputs: Any = _colours_first(x, None if isinstance(self.shape, dict) else self.shape)
            if self.clip is not None:
                inputs = inputs.clamp(-self.clip, self.clip)
        else:
            own = self.shape if isinstance(self.shape, dict) else {}
            inputs = {name: _colours_first(part, own.get(name)) for name, part in split(x, self.parts).items()}
        return evaluate(self._outputs, len(x), "policy", None, inputs)

    def _outputs(self, inputs: Any) -> Any:
        output = self.decide(inputs)
        return output.logits if isinstance(output, torch.distributions.Categorical) else output

    def fits(self, shape: Any) -> bool:
        """Return whether the policy takes observations of this shape, or these shapes, colours first or last."""
        if isinstance(shape, dict) and isinstance(self.shape, dict):
            return shape.keys() == self.shape.keys() and all(_fits(shape[name], self.shape[name]) for name in shape)
        return self.shape is None or (
            isinstance(shape, tuple) and isinstance(self.shape, tuple) and _fits(shape, self.shape)
        )

    def actions(self, output: Tensor, space: Any) -> np.ndarray:
        """Map logits or means (B, ...) to actions of an environment with this action space."""
        if self.discrete:
            return self.chosen(output.argmax(1).cpu().numpy(), space)
        means = output.detach().cpu().numpy()
        if self.agent is not None and self.agent.squash_output:
            return self.agent.unscale_action(means)
        return np.clip(means, space.low, space.high) if hasattr(space, "low") else means

    def chosen(self, numbers: np.ndarray, space: Any) -> np.ndarray:
        """Map numbers (B,) of discrete actions to actions of an environment with this action space."""
        branches = _branches(space)
        if branches is not None:
            return np.stack(np.unravel_index(numbers, branches), 1)
        return numbers if self.agent is not None else numbers + getattr(space, "start", 0)


def _agent(policy: Any) -> Any:
    """The policy of stable-baselines3 or the `Agent` that an object is or has; None: there is none."""
    for candidate in (policy, getattr(policy, "policy", None)):
        if hasattr(candidate, "observation_space") and (hasattr(candidate, "_predict") or isinstance(candidate, Agent)):
            return candidate
    return None


def _decision(agent: Any) -> tuple[Callable[[Any], Any], bool]:
    """The function from observations to logits or means of an agent, and whether it gives logits."""
    if isinstance(agent, Agent):
        return agent.actor, False
    kind = type(agent.action_space).__name__
    if hasattr(agent, "lstm_actor"):
        raise InputError("policy", "one without memory", type(agent).__name__)
    if kind == "Box":
        return lambda x: agent._predict(x, deterministic=True), False
    if kind == "Discrete" and hasattr(agent, "q_net"):
        return agent.q_net, True
    if kind == "Discrete" and hasattr(agent, "quantile_net"):
        return lambda x: agent.quantile_net(x).mean(1), True
    if hasattr(agent, "get_distribution"):
        return lambda x: _logits(agent.get_distribution(x)), True
    raise InputError("policy", "logits of discrete actions, or the mean of continuous ones", f"{kind} actions")


def _logits(distribution: Any) -> Tensor:
    """Logits (B, K) of a distribution of stable-baselines3; of several actions those of their combinations."""
    inner = getattr(distribution, "distributions", None) or distribution.distribution
    if isinstance(inner, torch.distributions.Bernoulli):
        parts = [torch.stack([torch.zeros_like(one), one], 1) for one in inner.logits.unbind(1)]
    else:
        parts = [one.logits for one in (inner if isinstance(inner, list) else [inner])]
    whole = parts[0]
    for part in parts[1:]:
        whole = (whole[:, :, None] + part[:, None]).flatten(1)
    return whole


def _branches(space: Any) -> tuple[int, ...] | None:
    """The numbers of several discrete actions; None: there is one, or they are continuous.

    Raises:
        InputError: they have too many combinations.
    """
    kind = type(space).__name__
    if kind not in ("MultiDiscrete", "MultiBinary"):
        return None
    numbers = np.asarray(space.nvec).ravel().tolist() if kind == "MultiDiscrete" else [2] * int(np.prod(space.n))
    if prod(numbers) > MOST_ACTIONS:
        raise InputError("policy", f"discrete actions of at most {MOST_ACTIONS} combinations", f"{space}")
    return tuple(numbers)


def require_boxes(policy: Any) -> None:
    """Raise `InputError` if a policy is an agent whose observations cannot be changed a little."""
    if (agent := _agent(policy)) is not None and agent.observation_space is not None:
        _boxes(agent.observation_space)


def _boxes(space: Any) -> dict[str, Any]:
    """Parts of a space of observations by name, each a Box."""
    parts = space.spaces if type(space).__name__ == "Dict" else {"": space}
    if wrong := [part for part in parts.values() if type(part).__name__ != "Box"]:
        expected = "one whose observations are images or vectors, or a dictionary of them"
        raise InputError("policy", expected, f"{wrong[0]}")
    return parts


def _space(space: Any, bytes_: bool) -> tuple[tuple[int, ...] | Shapes | None, tuple[float, float]]:
    """Shape, or shapes, and bounds of an agent's observations."""
    if space is None:  # of an `Agent` without its environment
        return None, (-inf, inf)
    parts = _boxes(space)
    for part in parts.values():
        if (part.dtype == np.uint8) != bytes_:
            raise InputError(
                "observations", f"{part.dtype}, as the policy's space has them", "bytes" * bytes_ or "floats"
            )
    low, high = min(part.low.min() for part in parts.values()), max(part.high.max() for part in parts.values())
    uniform = all((part.low == low).all() and (part.high == high).all() for part in parts.values())
    shapes = {name: part.shape for name, part in parts.items()}
    return shapes.get("", shapes), (float(low), float(high)) if uniform else (-inf, inf)


def _colours_first(x: Tensor, shape: tuple[int, ...] | None) -> Tensor:
    """Images (B, H, W, C) as a policy of this shape takes them."""
    return x if shape is None or x.shape[1:] == shape else x.movedim(-1, 1)


def _fits(shape: tuple[int, ...], own: tuple[int, ...]) -> bool:
    return own in (shape, (*shape[-1:], *shape[:-1]))


def split(x: Tensor, parts: Shapes) -> dict[str, Tensor]:
    """Split rows (B, N) into the arrays of a dictionary of observations."""
    sizes = [prod(shape) for shape in parts.values()]
    return {name: part.reshape(-1, *parts[name]) for name, part in zip(parts, x.split(sizes, 1), strict=True)}


def are_bytes(observations: Observations) -> bool:
    """Return whether observations are uint8.

    Raises:
        InputError: only some in a dictionary are.
    """
    if not isinstance(observations, dict):
        return torch.as_tensor(observations).dtype == torch.uint8
    kinds = {are_bytes(part) for part in observations.values()}
    if len(kinds) != 1:
        expected = "a dictionary of bytes alone, or of floating-point values alone, as one radius is for all"
        raise InputError(
            "observations", expected, ", ".join(f"{torch.as_tensor(x).dtype}" for x in observations.values())
        )
    return kinds.pop()


def as_tensor(observations: Observations, normalization: Normalization | None = None) -> Tensor:
    """Return observations (B, *shape) as a tensor: bytes as shares of 255, floats scaled by the normalisation.

    The arrays of a dictionary come side by side, (B, N).

    Raises:
        InputError: they are not finite numbers (B, *shape).
    """
    if isinstance(observations, dict):
        if normalization is not None:
            raise InputError("normalization", "None of observations that are dictionaries", "statistics")
        flat = [as_tensor(part).flatten(1) for part in observations.values()]
        if len({len(part) for part in flat}) > 1:
            raise InputError("observations", "a dictionary of arrays of one length", [len(part) for part in flat])
        return torch.cat(flat, 1)
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


def check_action_space(output: Tensor, discrete: bool, space: Any) -> None:
    """Raise `InputError` unless logits or means (B, ...) are those of an environment's actions."""
    branches = _branches(space)
    count = getattr(space, "n", None) if branches is None else prod(branches)
    expected = getattr(space, "shape", None) if count is None else (int(count),)
    if discrete != (count is not None) or tuple(output.shape[1:]) != expected:
        kind = f"the policy's {output[0].numel()} {'logits' if discrete else 'means'} are for"
        raise InputError("env", f"an environment with the actions that {kind}", f"{space}")
