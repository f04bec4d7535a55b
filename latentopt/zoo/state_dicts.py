"""State dicts: found in files, whatever they are wrapped in, and loaded into modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from latentopt.errors import InputError
from latentopt.files import read_tensors, require_file
from latentopt.zoo.parse_errors import error_line

StateDict = dict[str, Tensor]
COUNTERS = "num_batches_tracked"
"""End of the names of BatchNorm's counters, which old files lack."""


def read_state_dict(path: Path) -> StateDict:
    """Read the tensors of a safetensors file, or of a state dict that ``torch.save`` wrote, onto the CPU.

    Raises:
        InputError: there is no such file, it is broken, or it holds anything but named tensors.
    """
    require_file(path, "a file of weights")
    state = read_tensors(path)
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise InputError(str(path), "a state dict, names to tensors", type(state).__name__)
    return state


def load_into(module: nn.Module, state: StateDict, path: Path, owner: str) -> None:
    """Load the state dict of the file ``path`` into a module, which messages call ``owner``.

    Raises:
        InputError: the tensors are not the module's.
    """
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(str(path), f"the tensors of {owner}", error_line(error)) from error


def load_checkpoint(module: nn.Module, content: Any, path: Path, owner: str) -> None:
    """Load the one state dict in a checkpoint that has a module's names and shapes.

    Args:
        module: whose tensors are replaced.
        content: of the file: a state dict; or a dict that holds some, such as ``{"state_dict": ...}``. Their names may
            have prefixes, such as ``module.``. Of several that fit, an average of weights is taken (``g_ema``).
        path: path of the file, for messages.
        owner: name of the module, for messages.

    Raises:
        InputError: no state dict fits, or several do.
    """
    shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
    candidates = dict(state_dicts(content))
    fitting = {label: state for label, state in candidates.items() if _fits(state, shapes)}
    if len(fitting) > 1:
        averages = {label: state for label, state in fitting.items() if "ema" in label.lower()}
        fitting = averages if len(averages) == 1 else fitting
    if len(fitting) > 1:
        raise InputError(
            str(path), f"one state dict of {owner}", f"several: {', '.join(name.rstrip('.') for name in fitting)}"
        )
    if not fitting:
        raise InputError(str(path), f"the tensors of {owner}", _difference(content, candidates, shapes))
    load_into(module, next(iter(fitting.values())), path, owner)


def state_dicts(content: Any, label: str = "", depth: int = 2) -> Iterator[tuple[str, StateDict]]:
    """Yield the dicts of tensors in a checkpoint by their path in it, whole and by each prefix of their names."""
    if not isinstance(content, Mapping):
        return
    tensors = {str(name): tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}
    if tensors:
        yield label, tensors
        for prefix in dict.fromkeys(prefix for name in tensors for prefix in _prefixes(name)):
            part = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
            yield f"{label}{prefix.rstrip('.')}", part
    for name, inner in content.items() if depth else ():
        yield from state_dicts(inner, f"{label}{name}.", depth - 1)


def _prefixes(name: str) -> Iterable[str]:
    """The first one and the first two parts of a tensor's name, with their dots."""
    parts = name.split(".")[:-1]
    return (f"{'.'.join(parts[:count])}." for count in range(1, min(2, len(parts)) + 1))


def _fits(state: StateDict, shapes: Mapping[str, Any]) -> bool:
    missing = shapes.keys() - state.keys()
    same = all(name in shapes and tensor.shape == shapes[name] for name, tensor in state.items())
    return same and all(name.endswith(COUNTERS) for name in missing)


def _difference(content: Any, candidates: Mapping[str, StateDict], shapes: Mapping[str, Any]) -> str:
    """What the state dict that shares most tensors' names and shapes with a module has otherwise."""
    if not candidates:
        return f"no tensors, but {_keys(content) if isinstance(content, dict) else type(content).__name__}"

    def shared(item: tuple[str, StateDict]) -> tuple[int, int]:
        return sum(shapes.get(name) == tensor.shape for name, tensor in item[1].items()), len(item[1])

    label, state = max(candidates.items(), key=shared)
    sentences = [
        _keys_of("without", {n: shape for n, shape in shapes.items() if n not in state and not n.endswith(COUNTERS)}),
        _keys_of("with", {name: tensor.shape for name, tensor in state.items() if name not in shapes}),
    ]
    for name, tensor in state.items():
        if name in shapes and tensor.shape != shapes[name]:
            sentences.append(f"{name} of shape {tuple(tensor.shape)} in place of {tuple(shapes[name])}")
            break
    whose = f"the ones of {label.rstrip('.')}" if label else "tensors"
    is_nested = not any(isinstance(value, Tensor) for value in content.values())
    keys = {name for candidate in candidates.values() for name in candidate}
    looks = next((f"; they look like {kind}" for key, kind in KNOWN.items() if any(key in name for name in keys)), "")
    held = f" (the file holds {_keys(content)})" if is_nested else ""
    return f"{whose} {', '.join(filter(None, sentences))}{looks}{held}"


KNOWN = {
    "convs.0.conv.modulation.weight": "a StyleGAN2 of rosinality's layout",
    "to_rgbs.0.conv.modulation.weight": "a StyleGAN2 of rosinality's layout",
    "synthesis.b4.conv1.affine.weight": "a StyleGAN2 of NVIDIA's layout",
    "G.blocks.0.to_style1.weight": "a StyleGAN2 of lucidrains' layout",
    "blocks.0.to_style1.weight": "a StyleGAN2 of lucidrains' layout",
    "decoder.mid_block.attentions.0": "an AutoencoderKL of diffusers",
    "decoder.up_blocks.0.resnets.0.conv1.weight": "an autoencoder of diffusers",
    "time_embedding.linear_1.weight": "the denoiser of a diffusion model",
    "quantize.embedding.weight": "an autoencoder with a codebook",
    "layer1.0.conv1.weight": "a ResNet",
}
"""What a checkpoint is, by a part of one of its names."""


def _keys_of(how: str, shapes: Mapping[str, Any]) -> str:
    """Return the first of some names with its shape, and how many others there are."""
    if not shapes:
        return ""
    names = list(shapes)
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{how} {names[0]} {tuple(shapes[names[0]])}{more}"


def _keys(content: Mapping[Any, Any]) -> str:
    return ", ".join(map(str, content))
