"""Checkpoints of StyleGAN2, of rosinality/stylegan2-pytorch and of NVIDIA's stylegan2-ada-pytorch."""

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
from latentopt.zoo.stylegan2.network import StyleGAN2

PREFIX = "stylegan2:"
CONVERT = (
    "NVIDIA's pickle, which only running its code could read: there torch.save(G_ema.state_dict(), 'g.pt') of"
    " stylegan2-ada-pytorch, or convert_weight.py of rosinality/stylegan2-pytorch"
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
    sizes, state = read_state(path, read_tensors(path))
    card = {
        "name": printable(path.stem),
        "summary": f"a StyleGAN2, {sizes['size']} x {sizes['size']}",
        "architecture": {"generator": {"class_path": "latentopt.zoo.stylegan2.StyleGAN2", "init_args": sizes}},
        "weights_sha256": checksum(path),
        "licence": "",
        "latent_shape": [sizes["style"]],
        "output_range": (-1.0, 1.0),
        "start_scale": 1.0,
    }
    return card, lambda: {f"generator.{name}": tensor for name, tensor in state.items()}


def read_state(path: Path, content: Any) -> tuple[dict[str, Any], StateDict]:
    """Return the arguments and the whole state dict of the `StyleGAN2` in a checkpoint.

    Args:
        path: of the file, for messages.
        content: of the file. Of several generators the moving average is taken (``g_ema``).

    Raises:
        InputError: there is none, or a tensor is missing, unknown or of another shape; the first one is named.
    """
    candidates = {label: _from_nvidia(state) for label, state in state_dicts(content)}
    own = {
        label: state for label, state in candidates.items() if "conv1.conv.weight" in state and "to_rgb1.bias" in state
    }
    label = min(own, key=lambda name: ("ema" not in name.lower(), len(name)), default=None)
    if label is None:
        names = max(candidates.values(), key=len, default={})
        other = next((what for name, what in OTHERS.items() if any(name in state for state in candidates.values())), "")
        first = next((name for name in names if name not in ("latent_avg",)), "no tensors")
        expected = "a generator of StyleGAN2 (input.input, conv1.conv.weight, ..., or NVIDIA's synthesis.b4.const, ...)"
        raise InputError(str(path), expected, f"{first}, ..." + (f" of {other}" if other else ""))
    state = own[label]
    sizes = _sizes(path, state)
    with torch.device("meta"):
        expected_state = StyleGAN2(**sizes).state_dict()
    state = _completed(sizes, state)
    for name, tensor in expected_state.items():
        if name not in state:
            raise InputError(str(path), f"{name} of shape {tuple(tensor.shape)}", "none")
        if state[name].shape != tensor.shape:
            raise InputError(str(path), f"{name} of shape {tuple(tensor.shape)}", f"{tuple(state[name].shape)}")
    if unknown := [name for name in state if name not in expected_state]:
        raise InputError(str(path), f"the tensors of a StyleGAN2 of {sizes}", f"{unknown[0]}, too")
    return sizes, state


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
