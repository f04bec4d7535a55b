"""Pretrained agents in safetensors files: an actor, its critics, and the environment that they were trained for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from latentopt.errors import InputError
from latentopt.rl.agent_tensors import AgentNetworks, read_networks
from latentopt.rl.normalization import Normalization
from latentopt.rl.normalization_files import as_normalization, normalization_of
from latentopt.rl.observations import check_continuous

if TYPE_CHECKING:
    import gymnasium

TOLERANCE = 1e-4
"""Greatest deviation from a file's example, relative to its largest number."""
INSTALL = "pip install 'latentopt[rl]'"


class Actor(nn.Module):
    """An actor: observations (B, S) to actions (B, A) in [-1, 1], without noise.

    Args:
        body: all layers but the last.
        mean: the last, before the tanh.
        log_std: of a stochastic actor, the logarithm of the deviations before the tanh, from the body's output.
    """

    def __init__(self, body: Sequence[nn.Module], mean: nn.Linear, log_std: nn.Module | None = None) -> None:
        super().__init__()
        self.body, self.mean, self.log_std = nn.Sequential(*body), mean, log_std

    def forward(self, observations: Tensor) -> Tensor:
        return self.mean(self.body(observations)).tanh()

    def sample(self, observations: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw actions as in training; a deterministic actor's are those of `forward`."""
        hidden = self.body(observations)
        mean = self.mean(hidden)
        if self.log_std is None:
            return mean.tanh()
        noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype, device="cpu")
        return (mean + self.log_std(hidden).exp() * noise).tanh()


class Critics(nn.Module):
    """Critics: observations (B, S) and actions (B, A) in [-1, 1] to the values (B, 1) of each."""

    takes_scaled = True

    def __init__(self, networks: Sequence[Sequence[nn.Module]]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(nn.Sequential(*layers) for layers in networks)

    def forward(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, ...]:
        both = torch.cat([observations, actions], dim=1)
        return tuple(network(both) for network in self.networks)


class Agent:
    """An actor and its critics, frozen and in eval mode, with the interface of a model of stable-baselines3.

    Args:
        actor: of S numbers to A.
        critics: of both.
        name: for messages.
        normalization: of observations, before either sees them.
        scale: (A,) factor and offset from [-1, 1] to the actions of training; None: those of its environment.
        environment: where it acts; None: `predict` does not know the units of actions.
    """

    squash_output = True
    """The actor's output is in [-1, 1]."""

    def __init__(
        self,
        actor: Actor,
        critics: Critics,
        name: str,
        normalization: Normalization | None = None,
        scale: tuple[Tensor, Tensor] | None = None,
        environment: gymnasium.Env[Any, Any] | None = None,
    ) -> None:
        self.actor, self.critics, self.name = actor.eval().requires_grad_(False), critics.eval(), name
        self.critics.requires_grad_(False)
        self.observation_space: Any = None if environment is None else environment.observation_space
        self.action_space: Any = None if environment is None else environment.action_space
        self.normalization, self.scale = normalization, scale
        if normalization is not None:
            normalization.check(self.sizes[:1])
        if environment is not None:
            self.check(environment)

    @property
    def critic(self) -> Critics:
        """The critics, by stable-baselines3's name."""
        return self.critics

    @property
    def policy(self) -> Agent:
        """The agent itself, by stable-baselines3's name."""
        return self

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers of an observation and of an action, (S, A)."""
        first = self.actor.body[0]
        assert isinstance(first, nn.Linear)
        return first.in_features, self.actor.mean.out_features

    def observe(self, observations: Any) -> Tensor:
        """Normalise an environment's observations (B, S) for actor and critics."""
        if self.normalization is not None:
            observations = self.normalization(observations)
        return torch.as_tensor(np.asarray(observations)).to(self.actor.mean.weight.dtype)

    def obs_to_tensor(self, observation: Any) -> tuple[Tensor, bool]:
        """Normalise one observation (S,) or a batch; return the batch (B, S), and whether it was one."""
        shape, size = np.shape(observation), self.sizes[0]
        if isinstance(observation, dict) or shape[-1:] != (size,) or len(shape) > 2:
            got = "a dictionary" if isinstance(observation, dict) else f"shape {shape}"
            raise InputError("observation", f"{size} numbers, or a batch (B, {size})", got)
        return self.observe(observation).reshape(-1, size), len(shape) == 2

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[NDArray[Any], Any]:
        """Return the actor's actions, as models of stable-baselines3 do.

        Args:
            observation: one (S,), or a batch (B, S), of the environment.
            state: handed back.
            episode_start: has no effect.
            deterministic: without the noise of a stochastic actor.

        Returns:
            The action (A,) of one observation, or (B, A), in the environment's units, and the state.
        """
        batch, is_batch = self.obs_to_tensor(observation)
        with torch.inference_mode():
            scaled = self.actor(batch) if deterministic else self.actor.sample(batch)
        actions = self.unscale_action(scaled.numpy())
        return actions if is_batch else actions[0], state

    def unscale_action(self, actions: NDArray[Any]) -> NDArray[Any]:
        """Map actions (B, A) in [-1, 1] to the environment's units."""
        if self.action_space is None:
            raise InputError("agent", "one with its environment: load_agent(path, environment)", "one without")
        low, high = self.action_space.low, self.action_space.high
        return low + (high - low) / 2 * (actions + 1)

    def check(self, environment: gymnasium.Env[Any, Any]) -> None:
        """Raise `InputError` unless the environment's observations and actions are those of the agent."""
        name = environment.spec.id if environment.spec else type(environment).__name__
        spaces = environment.observation_space, environment.action_space
        check_continuous(name, spaces[1])
        got = tuple(space.shape for space in spaces)
        if got != tuple((size,) for size in self.sizes):
            sizes = f"observations and actions of {self.sizes[0]} and {self.sizes[1]} numbers, those of {self.name}"
            raise InputError(name, sizes, " and ".join(str(shape) for shape in got))
        for own, theirs in zip(self.scale or (), _scale_of(environment), strict=False):
            if not torch.allclose(own.double(), theirs, rtol=1e-5, atol=1e-6):
                bounds = " and ".join(str(tensor.tolist()) for tensor in self.scale or ())
                expected = f"actions of scale and bias {bounds}, those of {self.name}"
                raise InputError(name, expected, f"{environment.action_space}")


def load_agent(
    path: str | Path,
    environment: gymnasium.Env[Any, Any] | None = None,
    *,
    activation: str | None = None,
    vecnormalize: str | Path | None = None,
) -> Agent:
    """Load the agent in a safetensors file: an actor and its critics, named as in the docs (Agents from files).

    Layers are linear with one activation between every two; the actor's last is followed by tanh. A stochastic actor's
    mean is taken. Critics that were trained on an environment's own actions are made to take those in [-1, 1].

    Args:
        path: the file. Its metadata may have ``activation``, ``action_scale`` and ``action_bias``.
        environment: where the agent acts. Its range of actions is that of critics of other codes than
            stable-baselines3, where the file has none; without both their actions are taken to be in [-1, 1].
        activation: ``relu``, ``tanh``, ``elu``, ``leaky_relu``, ``gelu``, ``silu``, ``softplus`` or ``sigmoid``. None:
            as the file says, else ``relu``.
        vecnormalize: a file with the statistics that observations were normalised by, as `read_statistics` takes it;
            ``none``: they were not. None: the one that `find_statistics` finds, or none.

    Returns:
        The agent, whose critics take actions in [-1, 1].

    Raises:
        InputError: no such file, it holds no agent of that kind or other tensors beside, the agent is another
            environment's, or it disagrees with its own example.
    """
    path = Path(path)
    networks = read_networks(path, activation)
    scale, critics = networks.scale, networks.critics
    if not networks.scaled and scale is None and environment is not None:
        factor, offset = _scale_of(environment)
        scale = (factor, offset) if factor.shape == (networks.mean.out_features,) else None
    if not networks.scaled and scale is not None:
        critics = [_rescale(critic, *scale) for critic in critics]
    name = environment.spec.id if environment is not None and environment.spec else None
    normalization, _ = normalization_of(path, vecnormalize, name)
    actor = Actor(networks.body, networks.mean, networks.log_std)
    agent = Agent(actor, Critics(critics), path.stem, normalization, scale, environment)
    _check_example(path, agent, networks)
    return agent


def _scale_of(environment: gymnasium.Env[Any, Any]) -> tuple[Tensor, Tensor]:
    """Factor and offset (A,) from [-1, 1] to an environment's actions."""
    space: Any = environment.action_space
    if type(space).__name__ != "Box":
        return torch.empty(0), torch.empty(0)
    low, high = (torch.from_numpy(np.asarray(bound, np.float64)) for bound in (space.low, space.high))
    return (high - low) / 2, (high + low) / 2


def _rescale(critic: Sequence[nn.Module], factor: Tensor, offset: Tensor) -> list[nn.Module]:
    """A critic of actions ``offset + factor u`` as one of ``u``: only its first layer differs."""
    first, *rest = critic
    assert isinstance(first, nn.Linear)
    size, layer = len(factor), nn.Linear(first.in_features, first.out_features, dtype=first.weight.dtype)
    part = first.weight[:, -size:].detach().double()
    weight = torch.cat([first.weight[:, :-size].detach().double(), part * factor.double()], 1)
    layer.weight = nn.Parameter(weight.to(first.weight))
    layer.bias = nn.Parameter((first.bias.detach().double() + part @ offset.double()).to(first.bias))
    return [layer, *rest]


def _check_example(path: Path, agent: Agent, networks: AgentNetworks) -> None:
    """Raise `InputError` unless actor and critics do what the file's example says."""
    example = dict(networks.example)
    observations = example.pop("observations", None)
    if unknown := set(example) - {"actions", "values"} or (set(example) if observations is None else None):
        raise InputError(str(path), "an example of observations, actions and values", f"example.{min(unknown)}")
    if observations is None:
        return
    with torch.no_grad():
        actions = agent.actor(observations)
        theirs = {"actions": actions, "values": torch.cat(agent.critics(observations, actions), 1)}
    if agent.scale is not None and not networks.scaled:
        theirs["actions"] = agent.scale[1] + agent.scale[0] * actions
    for name, expected in example.items():
        if theirs[name].shape != expected.shape:
            raise InputError(str(path), f"example.{name} of shape {tuple(theirs[name].shape)}", tuple(expected.shape))
        off = float((theirs[name] - expected).abs().max())
        if off > TOLERANCE * (1 + float(expected.abs().max())):
            expectation = f"the {name} of its example (is activation or action_scale another?)"
            raise InputError(str(path), expectation, f"others, by up to {off:.2g}")


def normalization_for(policy: Any, normalization: Any) -> Normalization | None:
    """Return the normalisation that an argument stands for; of an `Agent` its own.

    Raises:
        InputError: the argument is no normalisation, or an `Agent` has one already.
    """
    if not isinstance(policy, Agent):
        return as_normalization(normalization)
    if normalization is not None and normalization is not policy.normalization:
        raise InputError("normalization", "None of an Agent, which has its own (vecnormalize=)", "another")
    return policy.normalization
