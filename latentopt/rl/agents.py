"""Pretrained agents in safetensors files: an actor, its critics, and the environment that they were trained for."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from latentopt.errors import InputError
from latentopt.zoo.weights import read_tensors

if TYPE_CHECKING:
    import gymnasium

INSTALL = "pip install 'latentopt[rl]'"


class Actor(nn.Module):
    """Observations (B, S) to the action (B, A) in [-1, 1] that the agent takes without noise.

    Args:
        body: all layers but the last.
        mean: the last, before the tanh.
        log_std: of a stochastic actor the layer that says how far its actions deviate, before the tanh.
    """

    def __init__(self, body: Sequence[nn.Module], mean: nn.Linear, log_std: nn.Linear | None = None) -> None:
        super().__init__()
        self.body, self.mean, self.log_std = nn.Sequential(*body), mean, log_std

    def forward(self, observations: Tensor) -> Tensor:
        return self.mean(self.body(observations)).tanh()

    def sample(self, observations: Tensor, generator: torch.Generator) -> Tensor:
        """Actions as the agent takes them in training; those of `forward` where it is not stochastic."""
        hidden = self.body(observations)
        mean = self.mean(hidden)
        if self.log_std is None:
            return mean.tanh()
        noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype)
        return (mean + self.log_std(hidden).clamp(-20, 2).exp() * noise).tanh()


class Critics(nn.Module):
    """Observations (B, S) and actions (B, A) in [-1, 1] to the values (B, 1) of each critic."""

    def __init__(self, networks: Sequence[Sequence[nn.Module]]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(nn.Sequential(*layers) for layers in networks)

    def forward(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, ...]:
        both = torch.cat([observations, actions], dim=1)
        return tuple(network(both) for network in self.networks)


class Agent:
    """An actor and its critics, one or two; frozen, in eval mode.

    Args:
        actor: of S numbers to A.
        critics: of both.
        name: for messages.
    """

    def __init__(self, actor: Actor, critics: Critics, name: str) -> None:
        self.actor, self.critics, self.name = actor.eval().requires_grad_(False), critics.eval(), name
        self.critics.requires_grad_(False)

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers of an observation and of an action, (S, A)."""
        first = self.actor.body[0]
        assert isinstance(first, nn.Linear)
        return first.in_features, self.actor.mean.out_features

    def check(self, environment: gymnasium.Env[Any, Any]) -> None:
        """Raise `InputError` unless the environment's observations and actions are those of the agent."""
        name = environment.spec.id if environment.spec else type(environment).__name__
        spaces = environment.observation_space, environment.action_space
        if type(spaces[1]).__name__ != "Box":
            raise InputError(name, "an environment with continuous actions (Box)", f"{spaces[1]}")
        came = tuple(space.shape for space in spaces)
        expected = tuple((size,) for size in self.sizes)
        if came != expected:
            sizes = f"observations and actions of {self.sizes[0]} and {self.sizes[1]} numbers, those of {self.name}"
            raise InputError(name, sizes, " and ".join(str(shape) for shape in came))


def load_agent(path: str | Path) -> Agent:
    """The agent in a safetensors file: the state dict of a stable-baselines3 policy (SAC, DDPG, TD3), or of modules
    ``actor``, ``critic_1`` and ``critic_2`` with layers ``l1``, ``l2``, ...

    Layers are linear with ReLUs between them; the actor's last is followed by tanh. A stochastic actor's mean is taken.

    Raises:
        InputError: no such file, or it holds no agent of that kind.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise InputError(str(path), "a .safetensors file", path.suffix or "no suffix")
    tensors = read_tensors(path)
    names = dict.fromkeys(name.rpartition(".")[0] for name in tensors)
    networks: dict[str, list[str]] = {}
    for name in names:
        if found := re.fullmatch(r"(actor|critic(?:_\d|\.qf\d))\.(?!log_std)(.+)", name):
            networks.setdefault(found[1], []).append(name)
    actor = sorted(networks.pop("actor", []), key=_place)
    if not actor or not networks:
        raise InputError(str(path), "an actor and its critics", ", ".join(names) or "nothing")
    critics = [_layers(path, tensors, sorted(networks[name], key=_place)) for name in sorted(networks)]
    *body, mean = _layers(path, tensors, actor)
    if not body:
        raise InputError(str(path), "an actor with a hidden layer", "one without")
    log_std = _layers(path, tensors, ["actor.log_std"])[0] if "actor.log_std" in names else None
    agent = Agent(Actor(body, mean, log_std), Critics(critics), path.stem)
    for layers in critics:
        ends = layers[0].in_features, layers[-1].out_features
        if ends != (sum(agent.sizes), 1):
            raise InputError(str(path), f"critics of {sum(agent.sizes)} numbers to one", f"{ends[0]} to {ends[1]}")
    return agent


def _place(name: str) -> tuple[bool, str]:
    """Where a layer stands in its network: a stochastic actor's mean (``actor.mu``) after all others."""
    return name == "actor.mu", name


def _layers(path: Path, tensors: dict[str, Tensor], names: Sequence[str]) -> list[Any]:
    """Linear layers with ReLUs between them."""
    layers: list[Any] = []
    for name in names:
        weight, bias = (tensors.get(f"{name}.{part}") for part in ("weight", "bias"))
        before = layers[-1].out_features if layers else None
        if weight is None or bias is None or weight.ndim != 2 or bias.shape != weight.shape[:1]:
            raise InputError(str(path), f"weight and bias of a linear layer {name}", "none")
        if before not in (None, weight.shape[1]):
            raise InputError(str(path), f"{name} of {before} inputs", weight.shape[1])
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
        layers += [*([nn.ReLU()] if layers else []), layer]
    return layers


def environment(name: str) -> gymnasium.Env[Any, Any]:
    """A gymnasium environment by name.

    Raises:
        InputError: there is none of this name, or what it needs is not installed.
    """
    try:
        import gymnasium
        from gymnasium.error import DependencyNotInstalled, Error
    except ImportError as error:
        raise InputError("environment", f"gymnasium ({INSTALL})", "none installed") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # agents of earlier versions keep theirs
            return gymnasium.make(name)
    except DependencyNotInstalled as error:
        raise InputError(name, f"an environment that is installed ({INSTALL})", str(error).splitlines()[0]) from error
    except Error as error:
        raise InputError("environment", "the name of a gymnasium environment", f"{name!r} ({error})") from error
