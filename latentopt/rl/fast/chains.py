"""Recognises critics that are chains of linear layers and ReLUs of the observation and the action, side by side."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import fx, nn

from latentopt.rl.critics import is_sb3

Chain = list[nn.Linear]
"""The linear layers of a critic, a ReLU between every two; the last one's outputs are averaged."""

_PATHS: WeakKeyDictionary[nn.Module, list[list[str]] | None] = WeakKeyDictionary()
_RELUS = {torch.relu, nn.functional.relu, "relu"}
_FLATS = {torch.squeeze, torch.flatten, "squeeze", "flatten"}


def chains_of(q: object) -> list[Chain] | None:
    """Return the present layers of each critic; None where a critic is no such chain on the CPU.

    A module's structure is traced once, its layers are read at every call.
    """
    if not isinstance(q, nn.Module):
        return None
    if q not in _PATHS:
        _PATHS[q] = _sb3_paths(q) if is_sb3(q) else _traced_paths(q)
    paths = _PATHS[q]
    if paths is None or q._forward_hooks or q._forward_pre_hooks:
        return None
    chains = [[q.get_submodule(path) for path in chain] for chain in paths]
    return chains if all(_is_plain(layer) for chain in chains for layer in chain) else None  # pyright: ignore[reportReturnType]


def _is_plain(layer: nn.Module) -> bool:
    return (
        type(layer) is nn.Linear
        and not (layer._forward_hooks or layer._forward_pre_hooks)
        and layer.bias is not None
        and layer.weight.device.type == "cpu"
        and layer.weight.dtype in (torch.float32, torch.float64)
    )


def _sb3_paths(q: Any) -> list[list[str]] | None:
    """Layers of a critic of stable-baselines3 whose features are the observation itself."""
    kinds = type(q.features_extractor).__name__, type(q.observation_space).__name__
    if kinds not in (("FlattenExtractor", "Box"), ("FlattenExtractor", "MultiBinary")):
        return None
    names = {id(module): name for name, module in q.named_modules()}
    paths = []
    for network in q.q_networks:
        kinds = [type(module) for module in network]
        if kinds != [nn.Linear, nn.ReLU] * (len(kinds) // 2) + [nn.Linear] or len(kinds) < 3:
            return None
        paths.append([names[id(module)] for module in network if type(module) is nn.Linear])
    return paths


def _traced_paths(q: nn.Module) -> list[list[str]] | None:
    try:
        graph = fx.Tracer().trace(q)
    except Exception:  # whatever its code does to a tracer, it is no plain chain
        return None
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    (output,) = (node for node in graph.nodes if node.op == "output")
    if len(inputs) != 2:
        return None
    results = output.args[0]
    several = results if isinstance(results, tuple | list) else (results,)
    paths = [_path(q, node, inputs) for node in several]
    if any(path is None or len(path) < 2 or q.get_submodule(path[-1]).out_features != 1 for path in paths):
        return None
    return paths  # pyright: ignore[reportReturnType]


def _path(q: nn.Module, node: Any, inputs: list[fx.Node]) -> list[str] | None:
    """The linear layers from the input to a node, followed backwards."""
    while isinstance(node, fx.Node) and node.target in _FLATS:
        node = node.args[0]
    path: list[str] = []
    while isinstance(node, fx.Node) and _layer(q, node) is nn.Linear and len(node.args) == 1:
        path.insert(0, str(node.target))
        node = node.args[0]
        if _joins(node, inputs):
            return path
        if not isinstance(node, fx.Node) or not (node.target in _RELUS or _layer(q, node) is nn.ReLU):
            return None
        node = node.args[0]
    return None


def _layer(q: nn.Module, node: fx.Node) -> type | None:
    return type(q.get_submodule(str(node.target))) if node.op == "call_module" else None


def _joins(node: Any, inputs: list[fx.Node]) -> bool:
    """Return whether a node is the observation and the action, side by side."""
    if not isinstance(node, fx.Node) or node.target not in (torch.cat, torch.concat, torch.hstack):
        return False
    parts, *rest = node.args or (None,)
    dim = node.kwargs.get("dim", rest[0] if rest else 0)
    return isinstance(parts, tuple | list) and list(parts) == inputs and (node.target is torch.hstack or dim in (1, -1))
