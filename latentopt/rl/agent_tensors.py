"""Actors and critics built from the tensors of a safetensors file, by the names that RL codes give to layers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from latentopt.errors import InputError
from latentopt.zoo.state_dicts import read_state_dict

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "sigmoid": nn.Sigmoid,
}
"""Activations by the name in a file or an argument ``activation``; with PyTorch's default settings."""


class _Naming(NamedTuple):
    """Names of a network's layers, below the network's own name."""

    numbered: str  # pattern of those with a number
    first: int  # the first number
    step: int  # from one to the next
    last: tuple[str, ...] = ()  # of the layer after them, one of these; none: the numbered ones are all
    log_std: str | None = None  # of the layer of a stochastic actor's deviations


ACTORS: dict[str, _Naming] = {
    "sb3-sac": _Naming(r"latent_pi\.(\d+)", 0, 2, ("mu",), "log_std"),
    "sb3": _Naming(r"mu\.(\d+)", 0, 2),
    "td3": _Naming(r"l(\d+)", 1, 1),
    "cleanrl": _Naming(r"fc(\d+)", 1, 1, ("fc_mu", "fc_mean"), "fc_logstd"),
}
CRITICS: dict[str, _Naming] = {
    "sb3": _Naming(r"(\d+)", 0, 2),
    "td3": _Naming(r"l(\d+)", 1, 1),
    "cleanrl": _Naming(r"fc(\d+)", 1, 1),
}
_CRITIC = re.compile(r"(critic\.qf\d+|critic_\d+|qf\d+|critic)\.")
_TARGET = re.compile(r"(target_\w+|\w+_target)\.")
SCALE, BIAS = "actor.action_scale", "actor.action_bias"
EXAMPLE = "example."


class LayerNames(NamedTuple):
    """Names of the layers of an actor and its critics, each network's from the first layer to the last."""

    actor: list[str]
    log_std: str | None
    critics: list[list[str]]  # of a single network "critic" with layers l1, l2, ... all critics in a row
    code: Literal["sb3", "td3", "cleanrl"]  # whose names the critics have


class AgentNetworks(NamedTuple):
    """Networks and metadata of a file."""

    body: list[nn.Module]  # of the actor, all but its last layer
    mean: nn.Linear  # its last, before the tanh
    log_std: nn.Module | None  # the logarithm of its deviations
    critics: list[list[nn.Module]]  # layers of each; of actions in the units of the file's code
    scaled: bool  # these units are [-1, 1]
    scale: tuple[Tensor, Tensor] | None  # (A,) factor and offset from [-1, 1] to these units, where the file has them
    example: dict[str, Tensor]  # observations, and the actor's actions or the critics' values there


class Affine(nn.Module):
    """The map ``factor * x + offset``."""

    def __init__(self, factor: float, offset: float) -> None:
        super().__init__()
        self.factor, self.offset = factor, offset

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x + self.offset


def read_networks(path: Path, activation: str | None) -> AgentNetworks:
    """Read the networks in a file.

    Raises:
        InputError: it holds something else, or ``activation`` differs from the file's.
    """
    from safetensors import safe_open

    if path.suffix != ".safetensors":
        raise InputError(str(path), "a .safetensors file", path.suffix or "no suffix")
    tensors = _floats(path, read_state_dict(path))
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    kind = _activation(path, activation, metadata.get("activation"))
    names = sort_names(str(path), tensors)
    *body, mean = _network(path, tensors, names.actor, kind)
    if not body:
        raise InputError(str(path), "an actor with a hidden layer", "one without")
    critics = [_network(path, tensors, layers, kind) for layers in _separate(tensors, names)]
    size = body[0].in_features + mean.out_features  # pyright: ignore[reportOperatorIssue]
    for layers in critics:
        ends = layers[0].in_features, layers[-1].out_features
        if ends != (size, 1):
            raise InputError(str(path), f"critics of {size} numbers to one", f"{ends[0]} to {ends[1]}")
    example = {name.removeprefix(EXAMPLE): value for name, value in tensors.items() if name.startswith(EXAMPLE)}
    scale = _scale(path, tensors, metadata, mean.out_features)
    return AgentNetworks(body, mean, _log_std(path, tensors, names), critics, names.code == "sb3", scale, example)


def sort_names(path: str, tensors: Iterable[str]) -> LayerNames:
    """Find the layers of an actor and its critics by their names.

    Raises:
        InputError: there is no actor or no critic, a layer is missing, or a tensor belongs to neither.
    """
    names = [name for name in tensors if not (_TARGET.match(name) or name.startswith(EXAMPLE))]
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in names if name not in (SCALE, BIAS)))
    networks: dict[str, list[str]] = {}
    for layer in layers:
        if match := _CRITIC.match(layer):
            networks.setdefault(match[1], []).append(layer[len(match[0]) :])
    own = [layer.removeprefix("actor.") for layer in layers if layer.startswith("actor.")]
    if not own or not networks:
        raise InputError(path, "an actor and its critics", ", ".join(layers) or "nothing")
    kind, actor, log_std = _actor(path, own)
    order = sorted(networks, key=lambda network: int(re.sub(r"\D", "", network) or 0))
    critics = [_critic(path, network, networks[network]) for network in order]
    codes = {code for code, _ in critics}
    if len(codes) > 1 or len({network.rstrip("0123456789") for network in networks}) > 1:
        raise InputError(path, "critics that are named alike", ", ".join(networks))
    layers_used = {*actor, *(layer for _, critic in critics for layer in critic), *([log_std] if log_std else [])}
    known = {f"{layer}.{part}" for layer in layers_used for part in ("weight", "bias")}
    known |= {SCALE, BIAS} if kind == "cleanrl" else set()
    if left := [name for name in names if name not in known]:
        expected = "no tensors but those of an actor's and its critics' linear layers (docs, Agents from files)"
        raise InputError(path, expected, ", ".join(left[:6]) + ", ..." * (len(left) > 6))
    return LayerNames(actor, log_std, [critic for _, critic in critics], codes.pop())  # pyright: ignore[reportArgumentType]


def _actor(path: str, own: Sequence[str]) -> tuple[str, list[str], str | None]:
    """The naming that an actor follows, its layers and that of its deviations."""
    for kind, naming in ACTORS.items():
        body = _numbered(path, "actor", own, naming)
        last = [f"actor.{name}" for name in naming.last if name in own]
        if body and len(last) == bool(naming.last):
            return kind, body + last, f"actor.{naming.log_std}" if naming.log_std in own else None
    raise _unknown(path, "actor", "an actor", own)


def _critic(path: str, network: str, own: Sequence[str]) -> tuple[str, list[str]]:
    for code, naming in CRITICS.items():
        if (code == "sb3") == network.startswith("critic.qf") and (body := _numbered(path, network, own, naming)):
            return code, body
    raise _unknown(path, network, "a critic", own)


def _unknown(path: str, network: str, owner: str, own: Sequence[str]) -> InputError:
    names = ", ".join(f"{network}.{name}" for name in own[:6])
    return InputError(path, f"{owner}'s layers as the docs name them (Agents from files)", names)


def _numbered(path: str, network: str, own: Sequence[str], naming: _Naming) -> list[str]:
    """The numbered layers in the order of their numbers."""
    layers = {int(match[1]): name for name in own if (match := re.fullmatch(naming.numbered, name))}
    numbers = sorted(layers)
    expected = [naming.first + naming.step * index for index in range(len(numbers))]
    if numbers != expected:
        between = ", an activation between every two" * (naming.step == 2)
        expected_layers = f"layers {', '.join(map(str, expected))} of {network}{between}"
        raise InputError(path, expected_layers, ", ".join(map(str, numbers)))
    return [f"{network}.{layers[number]}" for number in numbers]


def _floats(path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """All in float32, or in float64 if one of them is."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or not bool(tensor.isfinite().all()):
            raise InputError(str(path), f"finite floating-point numbers in {name}", f"{tensor.dtype}, or NaN")
    dtype = torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors.values()) else torch.float32
    return {name: tensor.to(dtype) for name, tensor in tensors.items()}


def _activation(path: Path, argument: str | None, metadata: str | None) -> type[nn.Module]:
    for name in (argument, metadata):
        if name is not None and name not in ACTIVATIONS:
            raise InputError("activation", f"one of {', '.join(ACTIVATIONS)}", repr(name))
    if None not in (argument, metadata) and argument != metadata:
        raise InputError("activation", f"{metadata}, as {path} says", argument)
    return ACTIVATIONS[argument or metadata or "relu"]


def _separate(tensors: dict[str, Tensor], names: LayerNames) -> list[list[str]]:
    """The layers of each critic; those of several in a row end where a layer has one output."""
    if len(names.critics) > 1 or names.code == "sb3":
        return names.critics
    critics: list[list[str]] = [[]]
    for layer in names.critics[0]:
        if critics[-1] and len(tensors[f"{critics[-1][-1]}.weight"]) == 1:
            critics.append([])
        critics[-1].append(layer)
    return critics


def _network(path: Path, tensors: dict[str, Tensor], names: Sequence[str], activation: type[nn.Module]) -> list[Any]:
    """Linear layers with activations between them."""
    layers: list[Any] = []
    for name in names:
        layer = _linear(path, tensors, name)
        if layers and layers[-1].out_features != layer.in_features:
            raise InputError(str(path), f"{name} of {layers[-1].out_features} inputs", layer.in_features)
        layers += [*([activation()] if layers else []), layer]
    return layers


def _linear(path: Path, tensors: dict[str, Tensor], name: str) -> nn.Linear:
    weight, bias = (tensors.get(f"{name}.{part}") for part in ("weight", "bias"))
    if weight is None or bias is None or weight.ndim != 2 or bias.shape != weight.shape[:1]:
        raise InputError(str(path), f"weight and bias of a linear layer {name}", "none")
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
    return layer


def _log_std(path: Path, tensors: dict[str, Tensor], names: LayerNames) -> nn.Module | None:
    """The deviations' layer with the bounds of stable-baselines3 or CleanRL."""
    if names.log_std is None:
        return None
    layer, mean = (_linear(path, tensors, name) for name in (names.log_std, names.actor[-1]))
    if layer.weight.shape != mean.weight.shape:
        raise InputError(str(path), f"{names.log_std} of shape {tuple(mean.weight.shape)}", tuple(layer.weight.shape))
    bounds = [nn.Tanh(), Affine(3.5, -1.5)] if names.log_std.endswith("fc_logstd") else [nn.Hardtanh(-20, 2)]
    return nn.Sequential(layer, *bounds)


def _scale(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str], size: int) -> tuple[Tensor, Tensor] | None:
    """Factor and offset (A,) of actions, by buffers of the actor or by the file's metadata."""
    values = {SCALE: tensors.get(SCALE), BIAS: tensors.get(BIAS)}
    for name in values:
        short = name.removeprefix("actor.")
        if values[name] is None and short in metadata:
            try:
                values[name] = torch.tensor(json.loads(metadata[short]), dtype=next(iter(tensors.values())).dtype)
            except (ValueError, TypeError) as error:
                raise InputError(str(path), f"{short}, a number or a list of numbers", metadata[short]) from error
    factor, offset = values.values()
    if factor is None:
        if offset is not None:
            raise InputError(str(path), "action_scale beside action_bias", "none")
        return None
    offset = torch.zeros_like(factor) if offset is None else offset
    for name, value in zip(values, (factor, offset), strict=True):
        if value.numel() not in (1, size):
            raise InputError(str(path), f"{name} of 1 or {size} numbers", tuple(value.shape))
    if not bool((factor > 0).all()):
        raise InputError(str(path), f"{SCALE} > 0", factor.tolist())
    return factor.reshape(-1).expand(size), offset.reshape(-1).expand(size)
