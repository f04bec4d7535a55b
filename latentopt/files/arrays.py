"""Arrays of files: NumPy's, safetensors, and what `torch.save` wrote, read without running code."""

from __future__ import annotations

import argparse
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from latentopt.errors import InputError, first_line, in_one_line
from latentopt.files.paths import is_folder, require_file

ARRAY_SUFFIXES = (".npy", ".npz", ".safetensors", ".pt", ".pth")
LARGE, RATIO = 2**30, 100
"""A packed array of more bytes, and of more than so many times those of the file, is a bomb."""


def in_quotes(path: str) -> str:
    """Return a path in quotes; of a folder, with the file of numbers in it that may be meant."""
    if not is_folder(path):
        return repr(path)
    names = sorted(file.name for file in Path(path).iterdir() if file.suffix.lower() in ARRAY_SUFFIXES)
    meant = "latents.safetensors" if "latents.safetensors" in names else next(iter(names), None)
    return f"the folder {path!r}" + (f" (did you mean {str(Path(path) / meant)!r}?)" if meant else "")


def read_array(path: Path, *names: str, strict: bool = False) -> np.ndarray:
    """Read the array of a file: the only one, or the first of several that has one of these names.

    Args:
        path: ``.npy`` or ``.npz``; ``.safetensors``; or ``.pt`` and ``.pth``, a tensor or a dict of tensors.
        names: in the order of preference.
        strict: whether the only array must have one of the names too.

    Returns:
        The array, of a ``.npy`` file as a memory map.

    Raises:
        InputError: there is no such file, it is broken or holds other things, or no array has one of the names.
    """
    require_file(path, f"a file of numbers ({', '.join(ARRAY_SUFFIXES)})")
    if path.suffix.lower() in (".npy", ".npz"):
        return _read_numpy(path, names, strict)
    tensors = read_tensors(path)
    if hasattr(tensors, "numpy"):
        tensors = {"": tensors}
    if not isinstance(tensors, dict) or not all(hasattr(tensor, "numpy") for tensor in tensors.values()):
        raise InputError(str(path), "a tensor, or a dict of tensors", type(tensors).__name__)
    tensor = tensors[_chosen(path, list(tensors), names, strict)].detach()
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()


def read_tensors(path: Path) -> Any:
    """Read a safetensors file, a dict of tensors by name, or what `torch.save` wrote, onto the CPU.

    Raises:
        InputError: there is no such file, it is broken, or it holds objects that only running code can read.
    """
    import torch

    require_file(path)
    if path.suffix.lower() == ".safetensors":
        return parse_safetensors(path, path.read_bytes())
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # the options of a training, in many checkpoints
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a broken file does
        reason = in_one_line(error)
        if foreign := re.search(r"GLOBAL (\S+) was not", reason):
            reason = f"an object of {foreign[1]}, which only running code could read"
        elif len(reason) < 9 or reason.startswith("Weights only load failed"):  # an opcode, or advice to run its code
            reason = "another kind of file, or a broken one"
        raise InputError(str(path), "tensors that torch.save wrote, without other objects", reason[:200]) from error


def parse_safetensors(path: Path, content: bytes) -> dict[str, Any]:
    """Return the tensors by name in the content of the safetensors file ``path``.

    Raises:
        InputError: it is broken.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise InputError(str(path), "a safetensors file", f"a broken one ({error})") from error


def read_metadata(path: Path) -> dict[str, str]:
    """Return the texts by name in a safetensors file; none of another file, or a broken one."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(require_file(path), "np") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError, InputError):
        return {}


def _read_numpy(path: Path, names: tuple[str, ...], strict: bool) -> np.ndarray:
    try:
        with path.open("rb") as file:
            if file.read(6) == b"\x93NUMPY":
                return np.load(path, mmap_mode="r", allow_pickle=False)
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                name = _chosen(path, arrays.files, names, strict)
                _require_size(path, arrays.zip, name)
                return arrays[name]
    except InputError:
        raise
    except Exception as error:  # whatever a broken file does
        reason = first_line(error)
        raise InputError(str(path), "a NumPy file of numbers", reason) from error


def _require_size(path: Path, archive: Any, name: str) -> None:
    """Raise `InputError` where an array would fill the memory: its header is wrong, or the file is a bomb."""
    member = next((name + end for end in (".npy", "") if name + end in archive.namelist()), name)
    packed: zipfile.ZipInfo = archive.getinfo(member)
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(file)
        size = int(np.prod(shape, dtype=object)) * dtype.itemsize
        rest = packed.file_size - file.tell()
    if size > rest or (size > LARGE and size > RATIO * packed.compress_size):
        got = f"{name} of shape {shape} and {dtype} in {packed.compress_size} bytes"
        raise InputError(str(path), "an array that is as large as its header says, and no bomb", got)


def _chosen(path: Path, keys: list[str], names: tuple[str, ...], strict: bool) -> str:
    if len(keys) == 1 and not strict:
        return keys[0]
    for name in names:
        if name in keys:
            return name
    expected = " or ".join(([] if strict else ["one array"]) + [f"an array named {name}" for name in names])
    raise InputError(str(path), expected, ", ".join(sorted(keys)[:8]) or "none")
