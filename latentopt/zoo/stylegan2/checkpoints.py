"""Checkpoints of StyleGAN2: of rosinality, of NVIDIA's stylegan2-ada-pytorch and of lucidrains."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentopt.errors import InputError, printable
from latentopt.files import read_tensors, require_file
from latentopt.io import checksum
from latentopt.zoo.state_dicts import StateDict, state_dicts
from latentopt.zoo.stylegan2.bilinear import BilinearStyleGAN2
from latentopt.zoo.stylegan2.network import StyleGAN2, StyleNetwork

PREFIX = "stylegan2:"
CONVERT = (
    "NVIDIA's pickle, which only running its code could read: there torch.save(G_ema.state_dict(), 'g.pt') of"
    " stylegan2-ada-pytorch, or convert_weight.py of rosinality/stylegan2-pytorch"
)
EXPECTED = (
    "a generator of StyleGAN2: input.input, ... (rosinality), synthesis.b4.const, ... (NVIDIA) or GE.initial_block, ..."
    " (lucidrains)"
)
OTHERS = {
    "synthesis.input.freqs": "StyleGAN3",
    "synthesis.b4.conv0.weight": "NVIDIA's StyleGAN2 of another architecture (resnet)",
    "generator.progression.0.conv1.conv.0.weight_orig": "StyleGAN",
    "style.fc0.weight": "StyleGAN",
    "decoder.conv_in.weight": "an autoencoder of latent diffusion",
    "main.0.weight": "a DCGAN",
    "convs.0.0.weight": "a discriminator",
    "final_linear.1.weight": "a discriminator",
}
"""What a checkpoint is that has a tensor of this name."""


def read_model(model: str) -> tuple[dict[str, Any], Callable[[], StateDict]]:
    """Read a checkpoint, ``stylegan2:FILE``; its sizes are those of its tensors.

    Args:
        model: its path, of a safetensors file or one that `torch.save` wrote.

    Returns:
        The content of a card, and a function that returns the tensors, ``generator.*``.

    Raises:
        InputError: there is no such file, or it holds another architecture.
    """
    path = Path(model.removeprefix(PREFIX))
    require_file(path, "a checkpoint of StyleGAN2")
    if path.suffix.lower() == ".pkl":
        raise InputError(str(path), "a safetensors file, or a state dict that torch.save wrote", CONVERT)
    network, sizes, state = read_state(path, read_tensors(path))
    side = sizes["size"] if "size" in sizes else 2 << len(sizes["channels"])
    card = {
        "name": printable(path.stem),
        "summary": f"a StyleGAN2, {side} x {side}",
        "architecture": {
            "generator": {"class_path": f"latentopt.zoo.stylegan2.{network.__name__}", "init_args": sizes}
        },
        "weights_sha256": checksum(path),
        "licence": "",
        "latent_shape": [sizes["style"]],
        "output_range": network.output_range,
        "start_scale": 1.0,
    }
    return card, lambda: {f"generator.{name}": tensor for name, tensor in state.items()}


def read_state(path: Path, content: Any) -> tuple[type[StyleNetwork], dict[str, Any], StateDict]:
    """Return the class, the arguments and the whole state dict of the generator in a checkpoint.

    Args:
        path: of the file, for messages.
        content: of the file. Of several generators the moving average is taken (``g_ema``).

    Raises:
        InputError: there is none, or a tensor is missing, unknown or of another shape; the first one is named.
    """
    candidates = {label: _from_nvidia(state) for label, state in state_dicts(content)}
    network: type[StyleNetwork] = StyleGAN2
    own = {label: state for label, state in candidates.items() if {"conv1.conv.weight", "to_rgb1.bias"} <= state.keys()}
    if own:
        state = own[min(own, key=lambda name: ("ema" not in name.lower(), len(name)))]
        sizes = _sizes(path, state)
        state = _completed(sizes, state)
    elif state := next(filter(None, map(_from_lucidrains, candidates.values())), None):
        network, sizes = BilinearStyleGAN2, _bilinear_sizes(path, state)
    else:
        raise InputError(str(path), EXPECTED, _likeness(candidates))
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in network(**sizes).state_dict().items()}
    for name, shape in shapes.items():
        got = tuple(state[name].shape) if name in state else "none"
        if got != shape:
            raise InputError(str(path), f"{name} of shape {shape}", f"{got}")
    if unknown := [name for name in state if name not in shapes]:
        raise InputError(str(path), f"the tensors of a StyleGAN2 of {sizes}", f"{unknown[0]}, too")
    return network, sizes, state


def _likeness(candidates: Mapping[str, StateDict]) -> str:
    """Return the first tensor of another network, and what it looks like."""
    other = next((what for name, what in OTHERS.items() if any(name in state for state in candidates.values())), "")
    first = next(iter(max(candidates.values(), key=len, default={})), "no tensors")
    return f"{first}, ..." + (f" of {other}" if other else "")


def _sizes(path: Path, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the arguments of `StyleGAN2` that the shapes of its tensors tell."""
    mapping = sum(bool(re.fullmatch(r"style\.\d+\.weight", name)) for name in state)
    blocks = sum(bool(re.fullmatch(r"to_rgbs\.\d+\.bias", name)) for name in state)
    first = ["style.1.weight", "input.input", *(f"convs.{2 * number}.conv.weight" for number in range(blocks))]
    if missing := [name for name in first if name not in state or state[name].ndim < 2]:
        raise InputError(str(path), f"a generator of StyleGAN2, with {missing[0]}", "none")
    channels = [state["input.input"].shape[1], *(state[name].shape[1] for name in first[2:])]
    return {
        "size": 4 << blocks,
        "style": state["style.1.weight"].shape[1],
        "mapping": mapping,
        "channels": channels,
        "colours": state["to_rgb1.bias"].shape[1] if state["to_rgb1.bias"].ndim == 4 else 3,
    }


def _completed(sizes: Mapping[str, Any], state: StateDict) -> StateDict:
    """Return the state dict with the filters and the noise maps that old files lack, of seed 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        own = StyleGAN2(**{**sizes, "channels": [1] * len(sizes["channels"]), "style": 1}).state_dict()
    missing = {name: own[name] for name in own if re.search(r"\.kernel$|^noises\.", name) and name not in state}
    return {**state, **missing}


def _from_lucidrains(state: StateDict) -> StateDict | None:
    """Return the tensors of the averaged networks of lucidrains/stylegan2-pytorch under our names."""
    ends = "E" if "GE.initial_conv.weight" in state else ""
    if f"G{ends}.initial_conv.weight" not in state:
        return None
    names = {f"S{ends}.": "S.", f"G{ends}.": "G."}
    return {
        own + name.removeprefix(prefix): tensor
        for prefix, own in names.items()
        for name, tensor in state.items()
        if name.startswith(prefix) and not name.endswith(".upsample.1.f")  # the filter
    }


def _bilinear_sizes(path: Path, state: StateDict) -> dict[str, Any]:
    """Return the arguments of `BilinearStyleGAN2` that the shapes of its tensors tell."""
    count = sum(bool(re.fullmatch(r"G\.blocks\.\d+\.conv2\.weight", name)) for name in state)
    names = ["S.net.0.weight", "G.blocks.0.to_rgb.conv.weight", *(f"G.blocks.{n}.conv2.weight" for n in range(count))]
    if missing := [name for name in names if name not in state or state[name].ndim < 2]:
        raise InputError(str(path), f"a generator of lucidrains' StyleGAN2, with {missing[0]}", "none")
    return {
        "style": state[names[0]].shape[1],
        "mapping": sum(bool(re.fullmatch(r"S\.net\.\d+\.weight", name)) for name in state),
        "channels": [len(state[name]) for name in names[2:]],
        "colours": len(state[names[1]]),
    }


LAYER = re.compile(r"synthesis\.b(\d+)\.(torgb|conv0|conv1)\.(weight|bias|affine\.\w+|noise_strength|noise_const)")
"""Tensors of NVIDIA's layers."""


def _from_nvidia(state: StateDict) -> StateDict:
    """Return the tensors of stylegan2-ada-pytorch under our names; other state dicts as they are."""
    if "synthesis.b4.const" not in state or "synthesis.b4.conv0.weight" in state:
        return state
    converted = {"input.input": state["synthesis.b4.const"][None]}
    for name, tensor in state.items():
        if match := re.fullmatch(r"mapping\.fc(\d+)\.(weight|bias)", name):
            converted[f"style.{int(match[1]) + 1}.{match[2]}"] = tensor
        elif match := LAYER.fullmatch(name):
            own, value = _renamed(int(match[1]), match[2], match[3], tensor)
            converted[own] = value
        elif name.startswith("mapping.embed"):
            converted[name] = tensor  # of a conditional one, which does not fit
    return converted


def _renamed(side: int, layer: str, part: str, tensor: Tensor) -> tuple[str, Tensor]:
    """Return our name and shape of a tensor of NVIDIA's layer at a resolution."""
    block = side.bit_length() - 4  # 0 at 8 x 8
    if part == "noise_const":
        return f"noises.noise_{2 * block + 1 + int(layer[-1])}", tensor[None, None]
    is_rgb = layer == "torgb"
    if side == 4:
        owner = "to_rgb1" if is_rgb else "conv1"
    else:
        owner = f"to_rgbs.{block}" if is_rgb else f"convs.{2 * block + int(layer[-1])}"
    if part == "weight":
        return f"{owner}.conv.weight", tensor[None]
    if part == "noise_strength":
        return f"{owner}.noise.weight", tensor.reshape(1)
    if part == "bias":
        return (f"{owner}.bias", tensor[None, :, None, None]) if is_rgb else (f"{owner}.activate.bias", tensor)
    return f"{owner}.conv.modulation.{part.removeprefix('affine.')}", tensor
