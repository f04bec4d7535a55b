"""Actors and critics built from the tensors of a safetensors file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from latentopt.errors import InputError
from latentopt.rl.agent_names import BIAS, EXAMPLE, SCALE, Names, sort_names
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
"""By the name that a file or an argument ``activation`` gives; with PyTorch's default settings."""
TOLERANCE = 1e-4
"""How far a file's example may be missed, relative to its largest number."""


class Affine(nn.Module):
    """Numbers times one number plus another."""

    def __init__(self, factor: float, offset: float) -> None:
        super().__init__()
        self.factor, self.offset = factor, offset

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x + self.offset


class Parts(NamedTuple):
    """What a file holds."""

    body: list[nn.Module]  # of the actor, all but its last layer
    mean: nn.Linear  # its last, before the tanh
    log_std: nn.Module | None  # the logarithm of its deviations
    critics: list[list[nn.Module]]  # of each; they take actions in the units that the file's code has
    scaled: bool  # these are [-1, 1]
    scale: tuple[Tensor, Tensor] | None  # (A,) factor and offset from [-1, 1] to them, where the file says them
    example: dict[str, Tensor]  # observations, and the actor's actions or the critics' values there


def read_parts(path: Path, activation: str | None) -> Parts:
    """The networks in a file.

    Raises:
        InputError: it holds something else, or ``activation`` is not what the file says.
    """
    if path.suffix != ".safetensors":
        raise InputError(str(path), "a .safetensors file", path.suffix or "no suffix")
    tensors = _floats(path, read_state_dict(path))
    said = _metadata(path)
    kind = _activation(path, activation, said.get("activation"))
    names = sort_names(str(path), tensors)
    *body, mean = _network(path, tensors, names.actor, kind)
    if not body:
        raise InputError(str(path), "an actor with a hidden layer", "one without")
    critics = [_network(path, tensors, part, kind) for part in _parted(tensors, names)]
    sizes = body[0].in_features + mean.out_features  # pyright: ignore[reportOperatorIssue]
    for layers in critics:
        ends = layers[0].in_features, layers[-1].out_features
        if ends != (sizes, 1):
            raise InputError(str(path), f"critics of {sizes} numbers to one", f"{ends[0]} to {ends[1]}")
    example = {name.removeprefix(EXAMPLE): value for name, value in tensors.items() if name.startswith(EXAMPLE)}
    scale = _scale(path, tensors, said, mean.out_features)
    return Parts(body, mean, _log_std(path, tensors, names), critics, names.code == "sb3", scale, example)


def _floats(path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """All in float32, or in float64 if one of them is."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or not bool(tensor.isfinite().all()):
            raise InputError(str(path), f"finite floating-point numbers in {name}", f"{tensor.dtype}, or NaN")
    dtype = torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors.values()) else torch.float32
    return {name: tensor.to(dtype) for name, tensor in tensors.items()}


def _metadata(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return file.metadata() or {}


def _activation(path: Path, asked: str | None, said: str | None) -> type[nn.Module]:
    for name in (asked, said):
        if name is not None and name not in ACTIVATIONS:
            raise InputError("activation", f"one of {', '.join(ACTIVATIONS)}", repr(name))
    if None not in (asked, said) and asked != said:
        raise InputError("activation", f"{said}, as {path} says", asked)
    return ACTIVATIONS[asked or said or "relu"]


def _parted(tensors: dict[str, Tensor], names: Names) -> list[list[str]]:
    """The layers of each critic; those of several in a row end where a layer has one output."""
    if len(names.critics) > 1 or names.code == "sb3":
        return names.critics
    parts: list[list[str]] = [[]]
    for layer in names.critics[0]:
        if parts[-1] and len(tensors[f"{parts[-1][-1]}.weight"]) == 1:
            parts.append([])
        parts[-1].append(layer)
    return parts


def _network(path: Path, tensors: dict[str, Tensor], names: Sequence[str], activation: type[nn.Module]) -> list[Any]:
    """Linear layers with activations between them."""
    layers: list[Any] = []
    for name in names:
        layer = _linear(path, tensors, name)
        before = layers[-1].out_features if layers else None
        if before not in (None, layer.in_features):
            raise InputError(str(path), f"{name} of {before} inputs", layer.in_features)
        layers += [*([activation()] if layers else []), layer]
    return layers


def _linear(path: Path, tensors: dict[str, Tensor], name: str) -> nn.Linear:
    weight, bias = (tensors.get(f"{name}.{part}") for part in ("weight", "bias"))
    if weight is None or bias is None or weight.ndim != 2 or bias.shape != weight.shape[:1]:
        raise InputError(str(path), f"weight and bias of a linear layer {name}", "none")
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
    return layer


def _log_std(path: Path, tensors: dict[str, Tensor], names: Names) -> nn.Module | None:
    """As stable-baselines3 bounds it, or CleanRL."""
    if names.log_std is None:
        return None
    layer, mean = (_linear(path, tensors, name) for name in (names.log_std, names.actor[-1]))
    if layer.weight.shape != mean.weight.shape:
        raise InputError(str(path), f"{names.log_std} of shape {tuple(mean.weight.shape)}", tuple(layer.weight.shape))
    bounds = [nn.Tanh(), Affine(3.5, -1.5)] if names.log_std.endswith("fc_logstd") else [nn.Hardtanh(-20, 2)]
    return nn.Sequential(layer, *bounds)


def _scale(path: Path, tensors: dict[str, Tensor], said: dict[str, str], size: int) -> tuple[Tensor, Tensor] | None:
    """By buffers of the actor, or by the file's metadata."""
    names = {SCALE: tensors.get(SCALE), BIAS: tensors.get(BIAS)}
    for name in names:
        short = name.removeprefix("actor.")
        if names[name] is None and short in said:
            try:
                names[name] = torch.tensor(json.loads(said[short]), dtype=next(iter(tensors.values())).dtype)
            except (ValueError, TypeError) as error:
                raise InputError(str(path), f"{short}, a number or a list of numbers", said[short]) from error
    factor, offset = names.values()
    if factor is None:
        if offset is not None:
            raise InputError(str(path), "action_scale beside action_bias", "none")
        return None
    offset = torch.zeros_like(factor) if offset is None else offset
    for name, value in zip(names, (factor, offset), strict=True):
        if value.numel() not in (1, size):
            raise InputError(str(path), f"{name} of 1 or {size} numbers", tuple(value.shape))
    if not bool((factor > 0).all()):
        raise InputError(str(path), f"{SCALE} > 0", factor.tolist())
    return factor.reshape(-1).expand(size), offset.reshape(-1).expand(size)


def rescaled(critic: Sequence[nn.Module], factor: Tensor, offset: Tensor) -> list[nn.Module]:
    """A critic of actions ``offset + factor u`` as one of ``u``: its first layer is another."""
    first, *rest = critic
    assert isinstance(first, nn.Linear)
    size, layer = len(factor), nn.Linear(first.in_features, first.out_features, dtype=first.weight.dtype)
    part = first.weight[:, -size:].detach().double()
    weight = torch.cat([first.weight[:, :-size].detach().double(), part * factor.double()], 1)
    layer.weight = nn.Parameter(weight.to(first.weight))
    layer.bias = nn.Parameter((first.bias.detach().double() + part @ offset.double()).to(first.bias))
    return [layer, *rest]
