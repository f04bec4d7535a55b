"""State dicts: read from files without running code, and loaded into modules."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor, nn

from latentopt.errors import InputError
from latentopt.zoo.card import error_line


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file, or of a state dict that ``torch.save`` wrote, onto the CPU.

    Raises:
        InputError: there is no such file, it is broken, or it holds anything but named tensors.
    """
    if not path.is_file():
        raise InputError(str(path), "a file of weights", "no file")
    if path.suffix == ".safetensors":
        return parse_safetensors(path, path.read_bytes())
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise InputError(str(path), "a state dict that torch.save wrote", error_line(error)) from error
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise InputError(str(path), "a state dict, names to tensors", type(state).__name__)
    return state


def parse_safetensors(path: Path, content: bytes) -> dict[str, Tensor]:
    """Return the tensors in the content of the safetensors file ``path``."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(content)
    except SafetensorError as error:
        raise InputError(str(path), "a safetensors file", f"a broken one ({error})") from error


def load_into(module: nn.Module, state: dict[str, Tensor], path: Path, owner: str) -> None:
    """Load the state dict of the file ``path`` into a module, which messages call ``owner``.

    Raises:
        InputError: the tensors are not the module's.
    """
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(str(path), f"the tensors of {owner}", error_line(error)) from error
