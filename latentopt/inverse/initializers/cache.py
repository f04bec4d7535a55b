"""What a start has learnt, kept on disk from one job to the next."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from latentopt.inverse.initializers.base import POOL_SEED, FittedInitializer, Initializer
from latentopt.inverse.initializers.pools import measured
from latentopt.io import write_atomically
from latentopt.networks.generator import Generator

PROBES = 8
"""Samples of a generator by whose measurements it, and the operator, are told from others."""
KEY, CONTENT = "key", "content"
"""Of a file's metadata: what it was learnt of, and the checksum of its tensors."""


def fit_cached(
    start: Initializer, generator: Generator, operator: Callable[[Tensor], Tensor], seed: int, folder: Path
) -> FittedInitializer:
    """What `Initializer.learn` returns, read from ``folder`` where it was learnt before, else left there.

    It is known by the start's settings, the seed, the generator and its weights, the operator, and the measurements of
    a few samples, so that other weights, another operator or another machine's rounding learn anew. So does a file that
    cannot be read, or whose tensors are not those that were written.
    """
    key = _key(start, generator, operator, seed)
    path = folder / f"{key[:32]}.safetensors"
    tensors = _read(path, key, str(generator.latents(1, 0).device)) if path.is_file() else None
    guess = start.restored(tensors) if tensors else None
    if guess is None:
        guess = start.fit(generator, operator, seed)
        _keep(guess, path, key)
    return guess


def _key(start: Initializer, generator: Generator, operator: Callable[[Tensor], Tensor], seed: int) -> str:
    z = generator.latents(PROBES, seed + POOL_SEED + 2)
    named = re.sub(r" at 0x[0-9a-f]+", "", f"{start!r} {seed} {generator!r} {generator.output_range} {operator!r}")
    seen = hashlib.sha256(f"{named} {z.dtype} {tuple(z.shape)}".encode())
    held = {**generator.state_dict(), **generator.conditions, "": measured(generator, operator, z)}
    seen.update(_checksum(held).encode())
    return seen.hexdigest()


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    whole = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        value = tensor.detach().cpu().contiguous()
        whole.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        whole.update(value.flatten().view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return whole.hexdigest()


def _read(path: Path, key: str, device: str) -> dict[str, Tensor] | None:
    """The tensors of a file that was learnt of this; None where it was not, or is broken or changed."""
    try:
        with safe_open(path, "pt", device=device) as file:
            told = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
    return tensors if told == {KEY: key, CONTENT: _checksum(tensors)} else None


def _keep(guess: FittedInitializer, path: Path, key: str) -> None:
    tensors = {name: value.contiguous() for name, value in vars(guess).items() if isinstance(value, Tensor)}
    if not tensors:
        return
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, save(tensors, {KEY: key, CONTENT: _checksum(tensors)}))
