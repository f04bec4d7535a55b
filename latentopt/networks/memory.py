"""Memory: what is available, what a gradient takes, and a generator made to fit."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from latentopt.errors import InputError
from latentopt.networks.checkpointing import blocks

VARIABLE = "LATENTOPT_MEMORY"
"""Environment variable that limits the memory of a gradient, such as 6GB."""
UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
SHARE = 0.8
"""Share of the available memory that gradients may take."""
TRANSIENT = 4
"""Number of tensors of the largest size that a backward pass holds beside what the forward pass saved."""


@dataclass
class SavedBytes:
    """Bytes that a forward pass saves for the backward pass."""

    total: int = 0
    largest: int = 0
    by_block: dict[int, int] = field(default_factory=dict)
    inputs: int = 0  # of the blocks

    @property
    def whole(self) -> int:
        """Peak of a backward pass."""
        return self.total + TRANSIENT * self.largest

    @property
    def checkpointed(self) -> int:
        """Peak of a backward pass through checkpointed blocks."""
        inside = sum(self.by_block.values())
        return self.total - inside + self.inputs + max(self.by_block.values(), default=0) + TRANSIENT * self.largest


@contextmanager
def saved_bytes(network: nn.Module) -> Iterator[SavedBytes]:
    """Context that counts what forward passes of a network save for the backward pass, weights left out."""
    saved, block = SavedBytes(), [-1]
    known = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers())}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            known.add(storage.data_ptr())
            saved.total += storage.nbytes()
            saved.largest = max(saved.largest, storage.nbytes())
            if block[0] >= 0:
                saved.by_block[block[0]] = saved.by_block.get(block[0], 0) + storage.nbytes()
        return tensor

    def enter(number: int, module: nn.Module, inputs: tuple[object, ...]) -> None:
        block[0] = number
        saved.inputs += sum(x.untyped_storage().nbytes() for x in inputs if isinstance(x, Tensor))

    def leave(*_: object) -> None:
        block[0] = -1

    handles = list[torch.utils.hooks.RemovableHandle]()
    for number, member in enumerate(blocks(network)):
        if not isinstance(member, torch.jit.ScriptModule):
            handles.append(member.register_forward_pre_hook(partial(enter, number)))
            handles.append(member.register_forward_hook(leave))
    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            yield saved
    finally:
        for handle in handles:
            handle.remove()


def available_memory(device: torch.device) -> int | None:
    """Return the bytes that tensors on a device may still take; None: unknown.

    Raises:
        InputError: the environment variable LATENTOPT_MEMORY is no size.
    """
    if text := os.environ.get(VARIABLE):
        match = re.fullmatch(r"([\d.]+)\s*([A-Z]*)", text.strip().upper())
        if match is None or match[2] not in UNITS:
            raise InputError(VARIABLE, "a size, such as 6GB", repr(text))
        return int(float(match[1]) * UNITS[match[2]])
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    if device.type != "cpu":
        return None
    limits = [_machine(), _group()]
    return min((limit for limit in limits if limit is not None), default=None)


def _machine() -> int | None:
    """Return the memory that Linux calls available."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"MemAvailable:\s+(\d+) kB", lines)
    return int(found[1]) * 1024 if found else None


def _group() -> int | None:
    """Return what the control group of a container leaves."""
    root = Path("/sys/fs/cgroup")
    try:
        limit, used = ((root / name).read_text(encoding="utf-8").strip() for name in ("memory.max", "memory.current"))
        cached = re.search(r"^inactive_file (\d+)", (root / "memory.stat").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return None
    return None if limit == "max" else int(limit) - int(used) + (int(cached[1]) if cached else 0)


def in_words(size: float) -> str:
    """Return a number of bytes in words.

    >>> in_words(1_234_567_890)
    '1.2 GB'
    """
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
