"""What a start has learnt, kept on disk from one job to the next."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from latentopt.generators import Generator
from latentopt.result import write_atomically
from latentopt.tasks.starts.base import POOL_SEED, Guess, Start
from latentopt.tasks.starts.pools import measured

PROBES = 8
"""Samples of a generator by whose measurements it, and the operator, are told from others."""


def kept_or_learnt(
    start: Start, generator: Generator, operator: Callable[[Tensor], Tensor], seed: int, folder: Path
) -> Guess:
    """What `Start.learn` returns, read from ``folder`` where it was learnt before, else left there.

    It is known by the start's settings, the seed, and the measurements of a few samples, so that other weights, another
    operator or another machine's rounding learn anew. A file that cannot be read or written is passed over.
    """
    z = generator.latents(PROBES, seed + POOL_SEED + 2)
    seen = hashlib.sha256(f"{start!r} {seed} {z.dtype} {tuple(z.shape)}".encode())
    seen.update(measured(generator, operator, z).float().cpu().numpy().tobytes())
    path = folder / f"{seen.hexdigest()[:32]}.safetensors"
    try:
        guess = start.restored(load_file(path, device=str(z.device))) if path.is_file() else None
    except (OSError, SafetensorError):
        guess = None
    if guess is None:
        guess = start.learn(generator, operator, seed)
        _keep(guess, path)
    return guess


def _keep(guess: Guess, path: Path) -> None:
    tensors = {name: value.contiguous() for name, value in vars(guess).items() if isinstance(value, Tensor)}
    if not tensors:
        return
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, save(tensors))
