"""Weights in files: read without running what they hold, and filled into modules."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor, nn

from latentopt.errors import InputError
from latentopt.zoo.card import one_line


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a state dict that ``torch.save`` wrote; on the CPU.

    Raises:
        InputError: no such file, or one that is broken or holds anything but named tensors.
    """
    if not path.is_file():
        raise InputError(str(path), "a file of weights", "no file")
    if path.suffix == ".safetensors":
        return parse_safetensors(path, path.read_bytes())
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise InputError(str(path), "a state dict that torch.save wrote", one_line(error)) from error
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise InputError(str(path), "a state dict, names to tensors", type(state).__name__)
    return state


def parse_safetensors(path: Path, content: bytes) -> dict[str, Tensor]:
    """The tensors in the content of the safetensors file ``path``."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(content)
    except SafetensorError as error:
        raise InputError(str(path), "a safetensors file", f"a broken one ({error})") from error


def fill(module: nn.Module, state: dict[str, Tensor], path: Path, owner: str) -> None:
    """Fill a module with the tensors that ``path`` held.

    Raises:
        InputError: they are not those of this module, which the message calls ``owner``.
    """
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(str(path), f"the tensors of {owner}", one_line(error)) from error
